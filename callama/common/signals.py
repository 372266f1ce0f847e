"""Signals that ask a process to end. `timeout` and launchers send one to a process and then to its group: that is
one wish, and hearing it twice must not break off what the first one began."""

from __future__ import annotations

import math
import time

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
