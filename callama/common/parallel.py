"""Work spread over processes, with results in the order of the work: the number of processes changes
the time that it takes and nothing else."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import TypeVar

from callama.common.errors import CallamaError

T = TypeVar("T")
R = TypeVar("R")


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Short-lived objects without cycles by the million: looking for cycles as often as by default costs a tenth.
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that was killed cannot send its workers home: they would wait for work for ever.
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def ordered_map(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yields ``work(item)`` for each item, in order; at most two items per worker are ahead of the reader.

    With one worker, or a single item, everything happens in this process. ``work`` and the items
    must be picklable.

    Raises:
        CallamaError: a worker process ended (the system may have been short of memory).
    """
    iterator = iter(items)
    first = list(islice(iterator, 2))
    if workers <= 1 or len(first) < 2:
        yield from map(work, chain(first, iterator))
        return
    # A forked child could inherit a lock that nobody is left to release (progress bars and tokenizers use threads).
    context = multiprocessing.get_context("spawn")
    pending: deque[Future[R]] = deque()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare) as pool:
        try:
            for item in chain(first, iterator):
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise CallamaError(
                "a worker process ended before its work was done; if memory ran short, use fewer --workers"
            ) from None
        finally:
            for future in pending:
                future.cancel()
