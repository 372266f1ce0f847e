"""What a data step does with a record that it cannot keep: a reason, counted, and the record put aside.

Nothing is lost in silence: each step names its reasons in an enum of codes with one sentence each,
and every dropped record stands in a quarantine file beside the output, with the fragment at fault.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Self

from callama.data.records import Record

MAX_FRAGMENT_CHARS = 2_000


class Reason(StrEnum):
    """A code with a sentence that explains it to the person who reads the report."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member


class DropError(Exception):
    """A record cannot be kept. Never leaves a data step: it becomes a line of the quarantine file."""

    def __init__(self, reason: Reason, detail: str = "", fragment: Any = "") -> None:
        """``fragment`` is the text at fault; a record may have any other value in its place."""
        super().__init__(f"{reason}: {detail or reason.sentence}")
        self.reason, self.detail = reason, detail
        self.fragment = fragment if isinstance(fragment, str) else repr(fragment)


def quarantine_line(record: Record, error: DropError, file: str = "") -> str:
    """One JSON Lines entry: where the record stood, why it was dropped, and the record itself.

    ``file`` names the source where there are several.
    """
    entry: dict[str, Any] = {"file": file} if file else {}
    entry |= {"row": record.number, "where": record.where, "reason": error.reason.value}
    entry["detail"] = error.detail or error.reason.sentence
    entry["fragment"] = error.fragment[:MAX_FRAGMENT_CHARS]
    if record.fault:
        return json.dumps({**entry, "text": record.raw})
    try:
        return json.dumps({**entry, "record": record.value}, allow_nan=False)
    except (RecursionError, ValueError, TypeError):
        # Too deep for the writer, a number beyond a double's range, or a Parquet type that JSON lacks.
        return json.dumps({**entry, "text": record.raw or repr(record.value)})
