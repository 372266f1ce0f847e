"""Work spread over processes with results in order, and only a few pieces in flight.

Because pieces are cut and results consumed in one process, nothing depends on how many workers
there are or which of them is fastest; because few are in flight, memory does not grow.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import TypeVar

from callama.common.errors import CallamaError

T = TypeVar("T")
R = TypeVar("R")
MAX_WORKERS = 4


def default_workers() -> int:
    """The cores that this process may use, four at most: beyond that, memory is the limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def _prepare() -> None:
    # Short-lived objects without cycles by the million: looking for cycles as often as by default costs a tenth.
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def ordered_map(function: Callable[[T], R], pieces: Iterable[T], workers: int) -> Iterator[R]:
    """``map`` over processes: results in the order of the pieces, two pieces a worker in flight.

    One worker, or one piece, needs no other process. ``function`` and pieces must be picklable.

    Raises:
        CallamaError: a worker died, which mostly means that memory ran out.
    """
    pieces = iter(pieces)
    first = list(islice(pieces, 2))
    if workers == 1 or len(first) < 2:
        yield from map(function, chain(first, pieces))
        return
    # spawn: a forked child would inherit locks that threads of the parent hold (progress bar, Arrow).
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for piece in chain(first, pieces):
                pending.append(pool.submit(function, piece))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise CallamaError("a worker process was killed, most likely for memory; use fewer --workers") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
