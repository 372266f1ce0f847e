"""Several sources in one data set: joined in their order, thinned to shares, counted by source."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest
from callama.contract.messages import Conversation, Message
from callama.data.build import QUARANTINE, build
from callama.data.dataset import Dataset
from callama.data.mix import thinned
from tests import tiny


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json").file


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Three files of 40, 30 (one of which has no answer) and 10 conversations."""
    question = Conversation((Message("user", "only a question"),))
    second = tmp_path / "b.json"
    second.write_text(json.dumps([c.to_dict() for c in [*map(tiny.conversation, range(40, 69)), question]]))
    return [
        tiny.write_conversations(tmp_path / "a.jsonl", map(tiny.conversation, range(40))),
        second,
        tiny.write_conversations(tmp_path / "c.jsonl", map(tiny.conversation, range(70, 80))),
    ]


def quarantined(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / QUARANTINE).read_text().splitlines()]


def kept(folder: Path) -> list[int]:
    sides = [Dataset(folder / f"{side}.arrow") for side in ("train", "validation")]
    return sorted(data[i].source for data in sides for i in range(len(data)))


def test_without_shares_everything_is_taken(tmp_path: Path, tokenizer: Path, sources: list[Path]) -> None:
    metadata = build(sources, tokenizer, tmp_path / "built")
    assert (metadata["read"], metadata["mix"]) == (80, [])
    assert kept(tmp_path / "built") == [n for n in range(80) if n != 69]
    assert [(s["file"], s["read"], s["train"] + s["validation"], s["dropped"]) for s in metadata["sources"]] == [
        ("a.jsonl", 40, 40, {}),
        ("b.json", 30, 29, {"no_answer": 1}),
        ("c.jsonl", 10, 10, {}),
    ]
    (entry,) = quarantined(tmp_path / "built")
    assert (entry["file"], entry["record"], entry["reason"]) == ("b.json", 29, "no_answer")


def test_shares_thin_all_but_the_scarcest_and_every_loss_is_told(
    tmp_path: Path, tokenizer: Path, sources: list[Path]
) -> None:
    metadata = build(sources, tokenizer, tmp_path / "built", mix=[2, 1.5, 1])
    assert [(s["read"], s["train"] + s["validation"], s["dropped"]) for s in metadata["sources"]] == [
        (40, 20, {"over_mix": 20}),
        (30, 15, {"no_answer": 1, "over_mix": 14}),
        (10, 10, {}),
    ]
    assert metadata["dropped"] == {"no_answer": 1, "over_mix": 34} and metadata["mix"] == [2, 1.5, 1]
    entries = quarantined(tmp_path / "built")
    assert Counter((e["file"], e["reason"]) for e in entries) == {
        ("a.jsonl", "over_mix"): 20, ("b.json", "over_mix"): 14, ("b.json", "no_answer"): 1
    }  # fmt: skip
    start = {"a.jsonl": 0, "b.json": 40}
    left_out = [start[entry["file"]] + entry["record"] for entry in entries]
    assert sorted(left_out + kept(tmp_path / "built")) == list(range(80))
    assert metadata["leakage"]["validation_functions_seen_in_training"] == 0
    for entry in entries:
        told = tiny.conversation(start[entry["file"]] + entry["record"])
        assert entry["reason"] == "no_answer" or Conversation.from_dict(entry["conversation"]) == told


def test_the_draw_follows_the_seed_alone(tmp_path: Path, tokenizer: Path, sources: list[Path]) -> None:
    for name, options in {
        "a": {"seed": 1}, "again": {"seed": 1, "workers": 2}, "other": {"seed": 2}, "negative": {"seed": -1}
    }.items():  # fmt: skip
        build(sources, tokenizer, tmp_path / name, mix=[1, 1, 1], **options)
    assert read_manifest(tmp_path / "a") == read_manifest(tmp_path / "again")
    assert kept(tmp_path / "a") != kept(tmp_path / "other")
    assert len(kept(tmp_path / "other")) == len(kept(tmp_path / "negative")) == 30


def test_a_source_without_a_share_is_left_out(tmp_path: Path, tokenizer: Path, sources: list[Path]) -> None:
    metadata = build(sources[:2], tokenizer, tmp_path / "built", mix=[1, 0])
    assert [s["dropped"] for s in metadata["sources"]] == [{}, {"no_answer": 1, "over_mix": 29}]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9)), min_size=1, max_size=4),
    st.integers(),
)
def test_shares_are_met_to_a_conversation(wanted: list[tuple[int, int]], seed: int) -> None:
    counts, shares = zip(*wanted, strict=True)
    source = np.repeat(np.arange(len(counts)), counts)
    stays = thinned([Path(str(c)) for c in counts], source, shares, seed)
    left = np.bincount(source[stays], minlength=len(counts))
    scale = min(c / s for c, s in wanted)
    assert any(left[i] == counts[i] for i in range(len(counts)))
    assert all(s * scale - 1 < n <= s * scale + 1e-6 for n, s in zip(left, shares, strict=True))


@pytest.mark.parametrize("mix", [[1], [1, 1, 1, 1], [0, 0, 0], [1, -1, 1], [1, float("nan"), 1], [1, float("inf"), 1]])
def test_shares_that_make_no_sense(tmp_path: Path, tokenizer: Path, sources: list[Path], mix: list[float]) -> None:
    with pytest.raises(UsageError, match=r"--mix must give each of the 3 sources its share, like 3:1, found"):
        build(sources, tokenizer, tmp_path / "built", mix=mix)


def test_sources_that_cannot_be_mixed(tmp_path: Path, tokenizer: Path, sources: list[Path]) -> None:
    mute = tiny.write_conversations(tmp_path / "mute.jsonl", [Conversation((Message("user", "only a question"),))])
    with pytest.raises(CallamaError, match=r"mute\.jsonl has no conversation that can be used"):
        build([sources[0], mute], tokenizer, tmp_path / "built", mix=[1, 1])
    with pytest.raises(UsageError, match=r"a\.jsonl is named twice"):
        build([sources[0], sources[0]], tokenizer, tmp_path / "built")
    assert not (tmp_path / "built").exists()
