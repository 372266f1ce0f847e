"""Work in several processes: the same results in the same order, and errors as they were raised."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

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


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_workers_end_when_their_parent_is_killed() -> None:
    program = (
        "import itertools, tests.common.test_parallel as here\n"
        "for _, pid in here.ordered_map(here.where, itertools.count(), 2):\n"
        "    print(pid, flush=True)\n"
        "    here.time.sleep(0.05)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        workers = {int(parent.stdout.readline()) for _ in range(6)}
        assert workers and parent.pid not in workers and all(map(alive, workers))
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, workers))
