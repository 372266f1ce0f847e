"""Packing: every document once, never over budget, in an order that the seed decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from callama.common.errors import CallamaError
from callama.data.dataset import Dataset, Example, write_examples
from callama.data.pack import EpochPlans, collate, plan
from callama.model.attend import Documents

lengths_and_budget = st.integers(10, 60).flatmap(
    lambda budget: st.tuples(st.lists(st.integers(2, budget + 1), min_size=1, max_size=50), st.just(budget))
)


@given(case=lengths_and_budget, seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_every_document_exactly_once_within_the_budget(case: tuple[list[int], int], seed: int, epoch: int) -> None:
    lengths, budget = case
    batches = EpochPlans(np.array(lengths), seed, budget)[epoch]
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 0 < sum(lengths[i] - 1 for i in batch) <= budget


def test_a_batch_ends_only_where_the_next_document_would_not_fit() -> None:
    assert plan([5, 5, 5, 3, 9], range(5), 8) == [[0, 1], [2, 3], [4]]


def test_a_document_longer_than_the_budget_is_named() -> None:
    with pytest.raises(CallamaError, match="conversation 1 has 12 tokens, more than fit into 10"):
        plan([11, 12], range(2), 10)


def test_order_depends_on_seed_and_epoch_only() -> None:
    lengths = np.full(40, 10)
    plans = EpochPlans(lengths, 3, 30)
    first, second = plans[0], plans[1]
    assert plans[0] == first == EpochPlans(lengths, 3, 30)[0]
    assert EpochPlans(lengths, 3, 30)[1] == second != first
    assert EpochPlans(lengths, 4, 30)[0] != first


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    def example(*ids: int) -> Example:
        array = np.array(ids, np.int32)
        return Example(array, (array % 7).astype(np.int8), array % 2 == 0)

    write_examples(tmp_path / "train.arrow", [example(1, 2, 3), example(4, 5, 6, 8), example(9, 7)])
    return Dataset(tmp_path / "train.arrow")


def test_each_position_predicts_the_next_token_of_its_own_document(dataset: Dataset) -> None:
    batch = collate(dataset, [1, 2, 0])
    assert batch.inputs.tolist() == [[4, 5, 6, 9, 1, 2]]
    assert batch.targets.tolist() == [5, 6, 8, 7, 2, 3]
    assert batch.kinds.tolist() == [5, 6, 1, 0, 2, 3]
    assert batch.supervised.tolist() == [False, True, True, False, True, False]
    assert batch.lengths == [3, 1, 2]
    assert batch.inputs.dtype == batch.targets.dtype == batch.kinds.dtype == torch.int64


def test_trap_19_positions_restart_with_every_document(dataset: Dataset) -> None:
    batch = collate(dataset, [1, 2, 0])
    assert Documents(batch.lengths).positions.tolist() == [[0, 1, 2, 0, 0, 1]]
