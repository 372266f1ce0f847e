"""What a server says that its answers cost: requests and tokens, added up over threads."""

from __future__ import annotations

import json
import threading

KEYS = ("prompt_tokens", "completion_tokens")


class Usage:
    """A running count; a server that reports no ``usage`` counts as a request of no tokens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {"requests": 0, **dict.fromkeys(KEYS, 0)}

    def add(self, body: bytes) -> None:
        """Counts a response. Never raises, whatever it holds."""
        try:
            said = json.loads(body).get("usage") or {}
            tokens = {key: said.get(key) for key in KEYS}
        except (ValueError, AttributeError, RecursionError):
            tokens = {}
        with self._lock:
            self._counts["requests"] += 1
            for key, number in tokens.items():
                if isinstance(number, int) and not isinstance(number, bool) and number > 0:
                    self._counts[key] += number

    def taken(self) -> dict[str, int]:
        """What was counted since the last time that this was asked."""
        with self._lock:
            counts, self._counts = self._counts, dict.fromkeys(self._counts, 0)
        return counts
