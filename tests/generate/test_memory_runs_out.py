"""A GPU's memory that does not suffice for the cache, in the words of torch there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from callama.cli.main import main
from callama.generate.cache import KVCache
from callama.generate.engine import Generator
from tests import tiny

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")


def holding(monkeypatch: pytest.MonkeyPatch, refused: range) -> None:
    """Refuses some of the caches that are made, counted from 0."""
    made = iter(range(99))
    make = KVCache.__init__

    def first(cache: KVCache, *given: Any) -> None:
        if next(made) in refused:
            raise FULL
        make(cache, *given)

    monkeypatch.setattr(KVCache, "__init__", first)


def test_a_cache_that_has_no_place_beside_its_successor_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callama.generate.engine.CAPACITY_STEP", 16)
    model = tiny.random_model(97, seed=5).eval()
    short, long = [3, 1, 4, 1, 5], [3, 1, 4, 1, 5] * 4
    expected = [Generator(model, ()).generate([prompt], 6)[0].ids for prompt in (short, long)]
    holding(monkeypatch, range(1, 2))
    generator = Generator(model, (), slots=2, keep=True)
    assert [generator.generate([prompt], 6)[0].ids for prompt in (short, long)] == expected
    holding(monkeypatch, range(99))
    with pytest.raises(torch.OutOfMemoryError):
        generator.generate([long * 3], 6)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["evaluate", "conversations.jsonl", "--model", "model", "--slots", "5", "--out", "report.json"],
         "give fewer --slots than 5, or take a device with more memory; the answers so far are kept beside"),
        (["evaluate", "conversations.jsonl", "--model", "model", "--slots", "1"], "leave out the conversations with"),
        (["chat", "model"], "offer fewer functions or begin a new chat"),
    ],
)  # fmt: skip
def test_one_sentence_says_what_to_do(
    arguments: list[str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tiny.write_all(tmp_path, count=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda prompt: "Hello")
    monkeypatch.setattr(sys, "argv", ["callama", *arguments])
    holding(monkeypatch, range(99))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert f"error: out of memory; {advice}" in capsys.readouterr().err


def test_any_other_verb_has_no_traceback_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("callama.cli.app.app", lambda: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "error: out of memory; close what else uses it" in capsys.readouterr().err
