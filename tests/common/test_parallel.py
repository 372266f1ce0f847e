"""Work in several processes: the same results in the same order, and errors as they were raised."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from callama.common.errors import CallamaError
from callama.common.parallel import ordered_map


def where(item: int) -> tuple[int, int]:
    return item, os.getpid()


def fail_at_five(item: int) -> int:
    if item == 5:
        raise CallamaError("record 5 is damaged")
    return item


def die(item: int) -> int:
    os._exit(3 + item)


def test_results_come_in_order_from_other_processes() -> None:
    done = list(ordered_map(where, range(50), 2))
    assert [item for item, _ in done] == list(range(50))
    assert os.getpid() not in {pid for _, pid in done}


def test_one_worker_or_one_item_stays_in_this_process() -> None:
    assert {pid for _, pid in ordered_map(where, range(5), 1)} == {os.getpid()}
    assert list(ordered_map(where, [7], 8)) == [(7, os.getpid())]
    assert list(ordered_map(where, [], 8)) == []


def test_no_more_is_taken_than_the_workers_need() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(1000):
            taken += 1
            yield item

    results = ordered_map(where, items(), 2)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    assert taken <= 3 + 2 * 2 + 1
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_is_an_error_here(workers: int) -> None:
    with pytest.raises(CallamaError, match="record 5 is damaged"):
        list(ordered_map(fail_at_five, range(20), workers))


def test_a_worker_that_ends_is_told_in_a_sentence() -> None:
    with pytest.raises(CallamaError, match=r"a worker process ended.*fewer --workers"):
        list(ordered_map(die, range(4), 2))
