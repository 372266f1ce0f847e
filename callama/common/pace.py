"""Not more often than agreed: what keeps calls to somebody else's server apart."""

from __future__ import annotations

import threading
import time


class Pace:
    """Lets calls pass, from any number of threads, at most ``per_minute`` a minute; 0: without limit."""

    def __init__(self, per_minute: float = 0.0) -> None:
        self._gap_seconds = 60.0 / per_minute if per_minute else 0.0
        self._lock, self._next = threading.Lock(), 0.0

    def wait(self, stop: threading.Event) -> None:
        """Returns when it is the caller's turn, or at once when ``stop`` is set."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap_seconds
        if (pause := turn - time.monotonic()) > 0:
            stop.wait(pause)
