"""Splitting by function: no function stands on both sides, whatever the data looks like."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.data.split import Split, functions_of, split

NAMES = [f"f{i}" for i in range(12)]
function_sets = st.lists(st.frozensets(st.sampled_from(NAMES), max_size=3), min_size=1, max_size=40)
# One tool in every conversation ties all of them into one group.
tied_sets = st.lists(st.frozensets(st.sampled_from(NAMES[1:]), max_size=2), min_size=4, max_size=40).map(
    lambda rows: [row | {"f0"} if i % 2 else row | {f"f{i % 11 + 1}", "f0"} for i, row in enumerate(rows)]
)
ratios = st.floats(0.05, 0.5)


def conversation(names: frozenset[str], text: str = "hello", **labels: str) -> Conversation:
    return Conversation((Message("user", text),), tuple(Tool(name) for name in sorted(names)), dict(labels))


def many(rows: list[frozenset[str]]) -> list[Conversation]:
    return [conversation(row, f"text {i % 5}") for i, row in enumerate(rows)]


def functions_by_side(rows: list[frozenset[str]], result: Split) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {"train": set(), "validation": set(), "straddles": set()}
    for row, side in zip(rows, result.sides, strict=True):
        out[side] |= row
    return out


@given(rows=st.one_of(function_sets, tied_sets), val_ratio=ratios, seed=st.integers(0, 99))
def test_no_function_stands_on_both_sides(rows: list[frozenset[str]], val_ratio: float, seed: int) -> None:
    result = split(many(rows), val_ratio, seed)
    assert len(result.sides) == len(rows)
    functions = functions_by_side(rows, result)
    assert not functions["train"] & functions["validation"]
    for row, side in zip(rows, result.sides, strict=True):
        if side == "straddles":
            assert row & functions["train"] or row & functions["validation"]
            assert len(row) > 1


@given(rows=function_sets, val_ratio=ratios)
def test_equal_texts_without_functions_stay_together(rows: list[frozenset[str]], val_ratio: float) -> None:
    sides: dict[str, set[str]] = {}
    for c, side in zip(many(rows), split(many(rows), val_ratio, 3).sides, strict=True):
        if not c.tools:
            sides.setdefault(c.messages[0].content or "", set()).add(side)
    assert all(len(found) == 1 for found in sides.values())


@given(rows=st.one_of(function_sets, tied_sets), val_ratio=ratios, data=st.data())
def test_the_order_of_the_rows_changes_nothing(
    rows: list[frozenset[str]], val_ratio: float, data: st.DataObject
) -> None:
    conversations = many(rows)
    order = data.draw(st.permutations(range(len(rows))))
    straight = split(conversations, val_ratio, 3)
    shuffled = split([conversations[i] for i in order], val_ratio, 3)
    assert [straight.sides[i] for i in order] == shuffled.sides
    assert straight == split(conversations, val_ratio, 3)


def test_the_share_asked_for_is_held_out_of_calls_and_of_plain_chat() -> None:
    rows = [frozenset({f"tool{i % 50}"}) for i in range(500)]
    plain = [conversation(frozenset(), f"chat {i}") for i in range(500)]
    for seed in range(5):
        sides = split([*map(conversation, rows), *plain], 0.2, seed).sides
        assert Counter(sides[:500])["validation"] == pytest.approx(100, abs=15)
        assert Counter(sides[500:])["validation"] == pytest.approx(100, abs=15)


def test_seeds_hold_out_different_functions() -> None:
    rows = [frozenset({f"tool{i % 50}"}) for i in range(500)]
    assert len({tuple(split(map(conversation, rows), 0.2, seed).sides) for seed in range(5)}) == 5


def test_one_giant_group_is_split_by_function_and_straddlers_are_named() -> None:
    # A chain f0-f1, f1-f2, … is one group; holding one function out leaves its two links between the sides.
    rows = [frozenset({f"f{i}", f"f{i + 1}"}) for i in range(30)] + [frozenset({f"f{i}"}) for i in range(31)]
    result = split(map(conversation, rows), 0.15, 3)
    assert "straddling" in result.method
    assert set(result.sides) == {"train", "validation", "straddles"}
    functions = functions_by_side(rows, result)
    assert not functions["train"] & functions["validation"]


def test_plain_chat_does_not_stand_in_for_held_out_functions() -> None:
    rows = [frozenset({f"f{i}", f"f{i + 1}"}) for i in range(30)] + [frozenset({f"f{i}"}) for i in range(31)]
    plain = [conversation(frozenset(), f"chat {i}") for i in range(200)]
    sides = split([*map(conversation, rows), *plain], 0.15, 3).sides
    assert "validation" in sides[: len(rows)] and "validation" in sides[len(rows) :]


def test_where_no_function_can_be_held_out_everything_is_trained_and_said_so() -> None:
    for rows in ([frozenset({"f0"})] * 20, [frozenset({"f0", "f1"})] * 20):
        result = split(map(conversation, rows), 0.2, 3)
        assert result.sides == ["train"] * 20
        assert result.method.startswith("none")


def test_labels_are_believed_when_every_row_has_one() -> None:
    labelled = [conversation(frozenset({"f0"}), split=s) for s in ("train", "validation", "train")]
    assert split(labelled, 0.5, 3) == Split(["train", "validation", "train"], "by label")
    assert split([*labelled, conversation(frozenset({"f1"}))], 0.5, 3).method != "by label"


def test_a_ratio_of_zero_trains_on_everything() -> None:
    rows = [frozenset({name}) for name in NAMES]
    assert split(map(conversation, rows), 0.0, 3).sides == ["train"] * len(rows)
    assert split([], 0.2, 3).sides == []


@given(rows=function_sets)
def test_trap_14_a_called_function_counts_though_it_is_not_declared(rows: list[frozenset[str]]) -> None:
    assume(any(rows))
    called = [
        Conversation((Message("user", "x"), Message("assistant", None, tuple(ToolCall(n, {}) for n in sorted(row)))))
        if row
        else conversation(row)
        for row in rows
    ]
    assert [functions_of(c) for c in called] == rows
    functions = functions_by_side(rows, split(called, 0.3, 3))
    assert not functions["train"] & functions["validation"]
