"""Splitting by function and by near-duplicates: neither stands on both sides, whatever the data looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.data import split as splitting
from callama.data.split import LEFT_OUT, PLACES, SIDES, Rows, functions_of


class Row(NamedTuple):
    """A conversation as the tests name it."""

    functions: frozenset[str]
    near: str
    label: str | None = None


class Split(NamedTuple):
    """A split with the names of its sides."""

    sides: list[str]
    method: str


def split(rows: Sequence[Row], val_ratio: float, seed: int) -> Split:
    """The split of rows, by way of the columns that it works on."""
    names = sorted({name for row in rows for name in row.functions})
    near = sorted({row.near for row in rows})
    columns = Rows(
        names,
        np.array([names.index(name) for row in rows for name in row.functions], np.int32),
        np.cumsum([0, *(len(row.functions) for row in rows)]),
        np.array([near.index(row.near) for row in rows], np.uint64),
        np.array([_label(row.label) for row in rows], np.int8),
    )
    result = splitting.split(columns, val_ratio, seed)
    return Split([PLACES[side] for side in result.sides], result.method)


def _label(label: str | None) -> int:
    if label is None:
        return splitting.UNLABELLED
    return SIDES.index(label) if label in SIDES else splitting.OTHER_LABEL


NAMES = [f"f{i}" for i in range(12)]
function_sets = st.lists(st.frozensets(st.sampled_from(NAMES), max_size=3), min_size=1, max_size=40)
# One tool in every conversation ties all of them into one group.
tied_sets = st.lists(st.frozensets(st.sampled_from(NAMES[1:]), max_size=2), min_size=4, max_size=40).map(
    lambda rows: [row | {"f0"} if i % 2 else row | {f"f{i % 11 + 1}", "f0"} for i, row in enumerate(rows)]
)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Rows whose groups of near-duplicates reach across sets of functions, or do not."""
    sets = draw(st.one_of(function_sets, tied_sets))
    groups = draw(st.sampled_from((2, 5, 1000)))
    return [Row(functions, f"n{draw(st.integers(0, groups))}") for functions in sets]


ratios = st.floats(0.05, 0.5)


def rows_of(*sets: Sequence[str]) -> list[Row]:
    return [Row(frozenset(names), f"own{i}") for i, names in enumerate(sets)]


def plain(count: int) -> list[Row]:
    return [Row(frozenset(), f"chat{i}") for i in range(count)]


def chain() -> list[Row]:
    """One group: f0-f1, f1-f2, …; holding one function out leaves its two links between the sides."""
    return rows_of(*([f"f{i}", f"f{i + 1}"] for i in range(30)), *([f"f{i}"] for i in range(31)))


def functions_by_side(rows: Sequence[Row], result: Split) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {"train": set(), "validation": set(), **{reason: set() for reason in LEFT_OUT}}
    for row, side in zip(rows, result.sides, strict=True):
        out[side] |= row.functions
    return out


@given(rows=tables(), val_ratio=ratios, seed=st.integers(0, 99))
def test_no_function_and_no_near_duplicate_stands_on_both_sides(rows: list[Row], val_ratio: float, seed: int) -> None:
    result = split(rows, val_ratio, seed)
    assert len(result.sides) == len(rows)
    functions = functions_by_side(rows, result)
    assert not functions["train"] & functions["validation"]
    near = {side: {r.near for r, s in zip(rows, result.sides, strict=True) if s == side} for side in set(result.sides)}
    assert not near.get("train", set()) & near.get("validation", set())
    for row, side in zip(rows, result.sides, strict=True):
        if side == "straddles_split":
            assert len(row.functions) > 1
        if side == "near_duplicate_across_split":
            assert row.near in near.get("train", set()) | near.get("validation", set())


@given(rows=tables(), val_ratio=ratios, data=st.data())
def test_the_order_of_the_rows_changes_nothing(rows: list[Row], val_ratio: float, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    straight = split(rows, val_ratio, 3)
    shuffled = split([rows[i] for i in order], val_ratio, 3)
    assert [straight.sides[i] for i in order] == shuffled.sides
    assert straight == split(rows, val_ratio, 3)


def test_the_share_asked_for_is_held_out_of_calls_and_of_plain_chat() -> None:
    rows = [*rows_of(*([f"tool{i % 50}"] for i in range(500))), *plain(500)]
    for seed in range(5):
        sides = split(rows, 0.2, seed).sides
        assert Counter(sides[:500])["validation"] == pytest.approx(100, abs=15)
        assert Counter(sides[500:])["validation"] == pytest.approx(100, abs=15)


def test_seeds_hold_out_different_functions() -> None:
    rows = rows_of(*([f"tool{i % 50}"] for i in range(500)))
    assert len({tuple(split(rows, 0.2, seed).sides) for seed in range(5)}) == 5


def test_near_duplicates_move_with_their_functions() -> None:
    rows = [Row(frozenset({f"tool{i % 50}"}), f"pair{i % 25}") for i in range(500)]
    result = split(rows, 0.2, 3)
    assert result.method == "by group of functions and near-duplicates"
    assert set(result.sides) == {"train", "validation"}
    assert all(result.sides[i] == result.sides[i + 25] for i in range(475))


def test_near_duplicates_that_tie_everything_together_are_left_out_of_the_smaller_side() -> None:
    # Each function has a conversation of one template; without it the functions would be apart.
    rows = rows_of(*([f"tool{i % 50}"] for i in range(450))) + [
        Row(frozenset({f"tool{i}"}), "template") for i in range(50)
    ]
    result = split(rows, 0.2, 3)
    held = {next(iter(r.functions)) for r, s in zip(rows, result.sides, strict=True) if s == "validation"}
    assert result.method == "by group of functions" and 8 <= len(held) <= 11
    assert Counter(result.sides[450:]) == {"train": 50 - len(held), "near_duplicate_across_split": len(held)}


def test_one_giant_group_is_split_by_function_and_straddlers_are_named() -> None:
    rows = chain()
    result = split(rows, 0.15, 3)
    assert "straddling" in result.method
    assert set(result.sides) == {"train", "validation", "straddles_split"}
    functions = functions_by_side(rows, result)
    assert not functions["train"] & functions["validation"]


def test_plain_chat_does_not_stand_in_for_held_out_functions() -> None:
    rows = chain()
    sides = split([*rows, *plain(200)], 0.15, 3).sides
    assert "validation" in sides[: len(rows)] and "validation" in sides[len(rows) :]


def test_where_no_function_can_be_held_out_everything_is_trained_and_said_so() -> None:
    for names in (["f0"], ["f0", "f1"]):
        result = split(rows_of(*[names] * 20), 0.2, 3)
        assert result.sides == ["train"] * 20
        assert result.method.startswith("none")


def test_labels_are_believed_when_every_row_has_one() -> None:
    labels = ("train", "validation", "train")
    labelled = [Row(frozenset({"f0"}), f"own{i}", label) for i, label in enumerate(labels)]
    assert split(labelled, 0.5, 3) == Split(["train", "validation", "train"], "by label")
    assert split([*labelled, Row(frozenset({"f1"}), "own")], 0.5, 3).method != "by label"


def test_rows_without_a_label_share_no_function_with_the_other_label() -> None:
    places = [(side, f"{side}{i}") for side in ("train", "validation") for i in range(9)]
    labelled = [Row(frozenset({name}), name, side) for side, name in places]
    rest = [Row(frozenset({f"free{i}"}), f"free{i}") for i in range(20)]
    rest += [Row(frozenset({name}), f"again {name}") for _, name in places]
    result = split([*labelled, *rest], 0.3, 3)
    assert result.method.startswith("by label, the rest by group")
    assert result.sides[:18] == [row.label for row in labelled]
    of_rows = list(zip(result.sides, [*labelled, *rest], strict=True))
    shown = {side: {f for s, row in of_rows if s == side for f in row.functions} for side in ("train", "validation")}
    assert not shown["train"] & shown["validation"]
    assert any(name.startswith("free") for name in shown["validation"]) and "straddles_split" in result.sides
    kept_again = [s for s in result.sides[38:] if s in ("train", "validation")]
    assert kept_again, "a function that only the same label shows is no reason to leave a row out"
    assert split([*labelled, *rest], 0, 3).sides[18:38] == ["train"] * 20


@pytest.mark.parametrize("said", ["train", "validation", None])
@pytest.mark.parametrize("val_ratio", [0, 0.3])
def test_a_test_set_is_left_out_where_others_are_labelled_one_of_the_sides(said: str | None, val_ratio: float) -> None:
    labels = [said, None, "test", "val"]
    rows = [Row(frozenset({f"f{i}"}), f"own{i}", label) for i, label in enumerate(labels * 20)]
    asked = [row for row in rows if row.label in (said, None)]
    result = split(rows, val_ratio, 3)
    if said is None:  # labels that know neither side say nothing about them
        assert "other_split" not in result.sides
        return
    left_out = [row.label for row, side in zip(rows, result.sides, strict=True) if side == "other_split"]
    assert left_out == ["test", "val"] * 20
    drawn = split([row._replace(label=None) for row in asked], val_ratio, 3)
    assert ([side for side in result.sides if side != "other_split"], result.method) == drawn
    assert ("validation" in drawn.sides) is (val_ratio > 0)


def test_near_duplicates_of_the_other_label_are_left_out() -> None:
    labels = ("train", "train", "validation", "validation", "train")
    near = ("a", "a", "a", "b", "b")
    rows = [Row(frozenset(), n, label) for n, label in zip(near, labels, strict=True)]
    assert split(rows, 0.5, 3).sides == [
        "train", "train", "near_duplicate_across_split", "validation", "near_duplicate_across_split"
    ]  # fmt: skip


def test_a_ratio_of_zero_trains_on_everything() -> None:
    rows = rows_of(*([name] for name in NAMES))
    assert split(rows, 0.0, 3).sides == ["train"] * len(rows)
    assert split([], 0.2, 3).sides == []


def test_trap_14_a_called_function_counts_though_it_is_not_declared() -> None:
    messages = (Message("user", "x"), Message("assistant", None, (ToolCall("called", {}), ToolCall("shown", {}))))
    assert functions_of(Conversation(messages, (Tool("shown"), Tool("idle")))) == {"called", "shown", "idle"}


def test_a_ratio_too_small_for_every_group_is_named_with_one_that_is_not() -> None:
    rows = [Row(frozenset([f"air{i % 8}", "air0"]), f"a{i}") for i in range(40)]
    rows += [Row(frozenset([f"ret{i % 8}", "ret0"]), f"r{i}") for i in range(20)]
    for ratio in (0.1, 0.3):
        result = split(rows, ratio, 3)
        assert set(result.sides) == {"train"}
        assert result.method == (
            f"none: no group of functions is small enough for a ratio of {ratio:g}; the smallest has 20 of 60 "
            "conversations with functions: --val-ratio 0.31 would hold it out"
        )
    assert Counter(split(rows, 0.31, 3).sides) == {"train": 40, "validation": 20}
    tied = split([Row(frozenset(["f"]), f"n{i}") for i in range(9)], 0.1, 3)
    assert tied.method == "none: every way to hold a function out leaves one side without functions"
