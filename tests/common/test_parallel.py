"""Work over processes: results in order, few pieces in flight, a dead worker told in a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from callama.common.errors import CallamaError
from callama.common.parallel import default_workers, ordered_map


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_pieces_are_taken_as_needed(workers: int) -> None:
    taken = []

    def pieces() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield -number

    results = ordered_map(abs, pieces(), workers)
    assert next(results) == 0
    assert len(taken) <= 2 * workers + 1
    assert list(results) == list(range(1, 50))


def test_one_piece_needs_no_other_process() -> None:
    assert list(ordered_map(lambda piece: os.getpid() + piece, [0], 2)) == [os.getpid()]
    assert list(ordered_map(abs, [], 2)) == []


def test_errors_of_the_work_come_through() -> None:
    with pytest.raises(ValueError):
        list(ordered_map(int, ["1", "x", "2"], 2))


def test_a_killed_worker_is_told_in_a_sentence() -> None:
    with pytest.raises(CallamaError, match="fewer --workers"):
        list(ordered_map(os._exit, [1, 1, 1], 2))


def test_default_workers() -> None:
    assert 1 <= default_workers() <= 4
