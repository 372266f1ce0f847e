"""Curves have the same three figures overall and by token kind."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest
import torch

from callama.contract.spans import Kind
from callama.train.checkpoint import Progress
from callama.train.loss import SupervisedLoss
from callama.train.watch import Sums, Watch


def test_perplexity_is_there_by_token_kind_too() -> None:
    first, second = list(Kind)[:2]
    losses, kinds = torch.tensor([1.0, 3.0, 0.5]), torch.tensor([first, first, second])
    sums = Sums()
    sums.add(SupervisedLoss(losses.sum(), losses, torch.tensor([True, False, True]), kinds))
    curves = sums.scalars("train")
    assert curves["train/perplexity"] == pytest.approx(math.exp(1.5))
    assert curves[f"train_perplexity/{first.name.lower()}"] == pytest.approx(math.exp(2.0))
    assert curves[f"train_perplexity/{second.name.lower()}"] == pytest.approx(math.exp(0.5))
    found = {name.partition("/")[0] for name in curves}
    assert found == {"train", "train_loss", "train_perplexity", "train_accuracy"} and len(curves) == 3 * 3


def test_curves_whose_disk_is_full_cost_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(tmp_path, Progress(planned_steps=8, total_steps=8), 0.0, silent=False)

    class Full:
        def add_scalar(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "events"))

    watch._writer = Full()  # type: ignore[assignment]
    for step in (1, 2):
        watch.step(Progress(8, 8, step=step, tokens=step), Sums(), 1e-3, 1.0, 0)
    watch.close()
    said = capsys.readouterr().err
    assert said.count("no curves are recorded") == 1 and "events: No space left" in said and "step 2/8" in said
