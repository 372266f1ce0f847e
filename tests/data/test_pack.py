"""Packing: every document once, never over budget, in an order that the seed decides."""

from __future__ import annotations

from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from callama.common.errors import CallamaError
from callama.data.dataset import Dataset, Example
from callama.data.pack import EpochPlans, Sizes, collate, plan, spread
from callama.model.attend import Documents
from tests import tiny


def apart(*lengths: int) -> Sizes:
    """Conversations that share nothing."""
    return Sizes(np.array(lengths), np.zeros(len(lengths), np.int64), np.arange(len(lengths)))


@st.composite
def sizes_and_budget(draw: st.DrawFn) -> tuple[Sizes, int]:
    """Conversations of which some open alike, none longer than the budget."""
    budget = draw(st.integers(10, 60))
    openings = draw(st.lists(st.integers(0, budget - 2), min_size=1, max_size=4))
    groups = draw(st.lists(st.integers(0, len(openings) - 1), min_size=1, max_size=50))
    lengths = [draw(st.integers(openings[g] + 2, budget + 1)) for g in groups]
    return Sizes(np.array(lengths), np.array([openings[g] for g in groups]), np.array(groups)), budget


@given(case=sizes_and_budget(), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_every_conversation_exactly_once_within_the_budget(case: tuple[Sizes, int], seed: int, epoch: int) -> None:
    sizes, budget = case
    batches = EpochPlans(sizes, seed, budget)[epoch]
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes.lengths)))
    for batch in batches:
        runs = [list(run) for _, run in groupby(batch, key=lambda i: sizes.groups[i])]
        shared = sum(int(sizes.openings[run[0]]) * (len(run) - 1) for run in runs)
        assert 0 < sum(int(sizes.lengths[i]) - 1 for i in batch) - shared <= budget


def test_a_batch_ends_only_where_the_next_conversation_would_not_fit() -> None:
    assert plan(apart(5, 5, 5, 3, 9), range(5), 8) == [[0, 1], [2, 3], [4]]


def test_conversations_that_open_alike_stand_together_and_cost_their_own_part() -> None:
    sizes = Sizes(np.full(90, 20), np.full(90, 15), np.arange(90) % 15)
    batches = EpochPlans(sizes, 1, 15 + 6 * 4)[0]
    assert len(batches) == 15
    assert all(len({int(sizes.groups[i]) for i in batch}) == 1 for batch in batches)


def test_a_document_longer_than_the_budget_is_named() -> None:
    with pytest.raises(CallamaError, match="conversation 1 has 12 tokens, more than fit into 10"):
        plan(apart(11, 12), range(2), 10)


def test_order_depends_on_seed_and_epoch_only() -> None:
    sizes = apart(*[10] * 40)
    plans = EpochPlans(sizes, 3, 30)
    first, second = plans[0], plans[1]
    assert plans[0] == first == EpochPlans(sizes, 3, 30)[0]
    assert EpochPlans(sizes, 3, 30)[1] == second != first
    assert EpochPlans(sizes, 4, 30)[0] != first


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    def example(*ids: int, opening: int = 0) -> Example:
        array = np.array(ids, np.int32)
        return Example(array, (array % 7).astype(np.int8), array % 2 == 0, opening_tokens=opening)

    alike = [example(1, 3, 5, 4, opening=2), example(1, 3, 7, 8, 6, opening=2)]
    tiny.write_examples(
        tmp_path / "train.arrow", [example(1, 2, 3), example(4, 5, 6, 8), example(9, 7, opening=1), *alike]
    )
    return Dataset(tmp_path / "train.arrow")


def test_each_position_predicts_the_next_token_of_its_own_document(dataset: Dataset) -> None:
    batch = collate(dataset, [1, 2, 0])
    assert batch.inputs.tolist() == [[4, 5, 6, 9, 1, 2]]
    assert batch.targets.tolist() == [5, 6, 8, 7, 2, 3]
    assert batch.kinds.tolist() == [5, 6, 1, 0, 2, 3]
    assert batch.supervised.tolist() == [False, True, True, False, True, False]
    assert batch.documents == [[3], [1], [2]]
    assert batch.inputs.dtype == batch.targets.dtype == batch.kinds.dtype == torch.int64


def test_trap_19_positions_restart_with_every_document(dataset: Dataset) -> None:
    batch = collate(dataset, [1, 2, 0])
    assert Documents(batch.documents).positions.tolist() == [[0, 1, 2, 0, 0, 1]]


def test_a_shared_opening_is_laid_once(dataset: Dataset) -> None:
    batch = collate(dataset, [0, 3, 4, 2])
    assert batch.documents == [[2], [2, 1, 2], [1]]
    assert batch.inputs.tolist() == [[1, 2, 1, 3, 5, 7, 8, 9]]
    assert batch.targets.tolist() == [2, 3, 3, 5, 4, 8, 6, 7]
    assert batch.supervised.tolist() == [True, False, False, False, True, True, True, False]
    assert Documents(batch.documents).positions.tolist() == [[0, 1, 0, 1, 2, 2, 3, 0]]


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_part_of_the_batches_is_of_all_the_data(batches: int, count: int) -> None:
    """Data stand source by source; what is read of them is no one source's."""
    taken = [at for (at,) in spread([[at] for at in range(batches)], count)]
    assert len(taken) == min(count, batches) and taken == sorted(set(taken))
    edges = [*taken, batches]
    assert taken[0] == 0 and max(b - a for a, b in pairwise(edges)) <= batches / len(taken) + 1
    assert spread([[at] for at in range(batches)], batches) == [[at] for at in range(batches)]
