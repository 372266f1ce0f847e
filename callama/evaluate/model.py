"""What is under test, whatever it is: a checkpoint here, a server elsewhere. Suites and runs know no more of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from callama.evaluate.cases import Case
from callama.evaluate.reply import Reply


class Model(Protocol):
    """Whatever answers; ``slots`` conversations at a time."""

    slots: int

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its answers, as JSON."""

    def answer(self, cases: Sequence[Case], keep: Callable[[int, Reply], None]) -> None:
        """Hands ``keep`` each case's index and reply, in any order, as they come."""

    def close(self) -> None:
        """Frees what it holds in memory; it may be asked again."""
