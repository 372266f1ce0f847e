"""Signals that ask a process to end. `timeout` and launchers send one to a process and then to its group: that is
one wish, and hearing it twice must not break off what the first one began."""

from __future__ import annotations

import math
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_SAME_WISH_SECONDS = 1.0


class EndedError(SystemExit):
    """A signal ends the process: no exit that somebody's code asked for, which may be caught."""


def to_handle() -> list[signal.Signals]:
    """Those that this process shall hear: not the hang-up of a terminal that it was told to outlive (``nohup``)."""
    return [n for n in ENDING if n is not signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]


def leave_terminal() -> None:
    """Sends what is still printed to a terminal nowhere: it is gone, and writing to it would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):
            os.dup2(nowhere, stream)
    os.close(nowhere)


class Wishes:
    """Tells a new wish from the echo of one."""

    def __init__(self) -> None:
        self._heard = -math.inf

    def is_new(self, number: int) -> bool:
        """Whether the signal that came just now is no echo; a hang-up takes the terminal along."""
        if number == signal.SIGHUP:
            leave_terminal()
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
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in to_handle()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for wish in came:
            signal.raise_signal(wish)
