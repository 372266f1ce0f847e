"""Signals that ask a process to end. `timeout` and launchers send one to a process and then to its group: that is
one wish, and hearing it twice must not break off what the first one began."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM)
_SAME_WISH_SECONDS = 1.0


class Wishes:
    """Tells a new wish from the echo of one."""

    def __init__(self) -> None:
        self._heard = -math.inf

    def is_new(self) -> bool:
        """Whether the signal that came just now is no echo."""
        now = time.monotonic()
        if now - self._heard < _SAME_WISH_SECONDS:
            return False
        self._heard = now
        return True


@contextmanager
def held() -> Iterator[None]:
    """A signal that asks to end waits until the block is through, for what must not be left half done."""
    if threading.current_thread() is not threading.main_thread():  # no handler runs here
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for wish in came:
            signal.raise_signal(wish)
