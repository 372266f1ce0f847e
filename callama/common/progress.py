"""Progress of long work on standard error: how much, how fast, how long still.

A terminal gets a live bar; a log gets a line every ten seconds, so that neither is silent and
standard output stays free for results.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

LOG_EVERY_SECONDS = 10.0
console = Console(stderr=True, soft_wrap=True, highlight=False)


def duration(seconds: float) -> str:
    """``75`` → ``1:15``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Meter:
    """Counts units of work against a total and shows rate and time left.

    Use as a context manager; ``total=None`` means that the end is not known. ``total`` may be set anew
    as an estimate gets better.
    """

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self._start = self._last = time.monotonic()
        self._bar: Progress | None = None
        self._note = ""

    def __enter__(self) -> Meter:
        self._start = self._last = time.monotonic()
        if console.is_terminal:
            bar = BarColumn(bar_width=30)
            # markup=False: a note such as "[2/3]" is text, not a style.
            texts = [TextColumn(field, markup=False) for field in ("{task.description}", "{task.fields[line]}")]
            columns = (SpinnerColumn(), texts[0], bar, texts[1])
            self._bar = Progress(*columns, console=console)
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total, line="")
        return self

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Counts ``amount`` more units; ``note`` stands behind the figures."""
        self.done += amount
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, total=self.total, line=self._line())
        elif time.monotonic() - self._last >= LOG_EVERY_SECONDS:
            self._last = time.monotonic()
            print(f"{self.what}: {self._line()}", file=sys.stderr, flush=True)

    def _line(self) -> str:
        elapsed = time.monotonic() - self._start
        rate = self.done / elapsed if elapsed > 0 else 0.0
        parts = [f"{self.done:,}" + (f"/{self.total:,}" if self.total is not None else "") + f" {self.unit}"]
        parts.append(f"{rate:,.1f}/s" if rate < 100 else f"{rate:,.0f}/s")
        if self.total is not None and rate > 0:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return " · ".join([*parts, self._note] if self._note else parts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            elapsed = time.monotonic() - self._start
            print(f"{self.what}: {self.done:,} {self.unit} in {duration(elapsed)}", file=sys.stderr, flush=True)
