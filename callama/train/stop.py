"""Ctrl-C, the SIGTERM of a scheduler and the end of a terminal, as a wish that the loop grants at the end of a step,
so that a stopped run can go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from callama.common.signals import Wishes, to_handle


class StopRequest:
    """The first signal ends the run at the next step; another one ends it at once, as it would without this."""

    def __init__(self) -> None:
        self.asked: int | None = None  # by this signal
        self._wishes = Wishes()
        self._before = {number: signal.getsignal(number) for number in to_handle()}

    def __call__(self, number: int, _: Any) -> None:
        if not self._wishes.is_new(number):
            return
        if self.asked is not None:
            self.restore()
            signal.raise_signal(number)
        self.asked = number

    def restore(self) -> None:
        """Gives the signals back to their handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[StopRequest]:
    """Within it, signals are noted in what is yielded."""
    request = StopRequest()
    for number in to_handle():
        signal.signal(number, request)
    try:
        yield request
    finally:
        request.restore()
