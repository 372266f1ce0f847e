"""Curves have the same three figures overall and by token kind."""

from __future__ import annotations

import math

import pytest
import torch

from callama.contract.spans import Kind
from callama.train.loss import SupervisedLoss
from callama.train.watch import Sums


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
