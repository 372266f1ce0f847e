"""Perplexity of plain text, against a direct computation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from callama.common.errors import CallamaError, UsageError
from callama.evaluate import prose
from callama.evaluate.local import LocalModel
from callama.evaluate.prose import perplexity, read_prose
from callama.model.attend import Documents
from callama.train.watch import Sums
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    root = tmp_path_factory.mktemp("prose")
    tiny.write_tokenizer(root / "tokenizer.json")
    return LocalModel(tiny.write_checkpoint(root / "model", root / "tokenizer.json"), max_new_tokens=4, slots=1)


def test_perplexity_is_the_mean_over_windows(
    model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prose, "WINDOW_TOKENS", 16)
    text = "The weather in Oslo is 7. What is the tide in Cork, number 3? " * 3
    (tmp_path / "t.txt").write_text(text)
    found = perplexity(model, read_prose(model, tmp_path / "t.txt"))
    ids = model.chat.renderer.tokenizer.encode(text)
    nats, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(ids), 16):
            window = torch.tensor([ids[start : start + 16]])
            logits = model.chat.model.logits(model.chat.model(window, Documents([[window.shape[1]]])))[0]
            chosen = logits.log_softmax(-1)[:-1].gather(1, window[0, 1:, None])
            nats, count = nats - float(chosen.sum()), count + len(chosen)
    assert found["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-3)
    assert found["low"] < found["perplexity"] < found["high"]
    assert found["tokens"] == count and found["windows"] == math.ceil(len(ids) / 16)
    assert found == perplexity(model, read_prose(model, tmp_path / "t.txt"))


def test_what_is_far_off_stays_a_number_as_in_the_curves_of_training(
    model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prose, "_nats", lambda *_: 1e6)
    (tmp_path / "t.txt").write_text("The weather in Oslo is 7. " * 3)
    found = perplexity(model, read_prose(model, tmp_path / "t.txt"))
    sums = Sums()
    sums.losses[0], sums.counts[0] = 1e6, 1
    assert found["low"] == found["perplexity"] == found["high"] == sums.scalars("train")["train/perplexity"] < 1e30


def test_bad_text_is_told(model: LocalModel, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CallamaError, match=r"latin\.txt is not UTF-8"):
        read_prose(model, tmp_path / "latin.txt")
    (tmp_path / "short.txt").write_text("")
    with pytest.raises(CallamaError, match=r"short\.txt has 0 tokens"):
        read_prose(model, tmp_path / "short.txt")
    with pytest.raises(UsageError, match=r"none\.txt does not exist"):
        read_prose(model, tmp_path / "none.txt")
