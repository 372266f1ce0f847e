"""Canonical conversations from a cleaned file: what every step after cleaning reads.

Cleaned files are ours, so nothing is skipped here: a record that is not a conversation is an error
that names the file and the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation
from callama.data.records import Record, decoded, read_records


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yields the conversations of a ``.jsonl`` or ``.json`` file in order, one in memory at a time.

    Raises:
        UsageError: no file is there (at the call).
        CallamaError: naming the file, the record (counted from 0) or line (from 1), and its fault.
    """
    records = read_records(path)

    return (conversation_of(path, record) for record in records)


def conversation_of(path: Path, record: Record) -> Conversation:
    """The conversation that a record of ``path`` holds.

    Raises:
        CallamaError: naming the file, the record (counted from 0) or line (from 1), and its fault.
    """
    record = decoded(record)
    if record.fault:
        hint = "; `callama clean` puts such a record aside" if record.too_long else ""
        raise CallamaError(f"{path}, {record.where}: {record.fault}{hint}")
    try:
        return Conversation.from_dict(record.value)
    except CallamaError as error:
        hint = ""
        if isinstance(record.value, dict) and "chat" in record.value and "messages" not in record.value:
            hint = "; this looks like raw glaive data: run `callama clean` on it first"
        raise CallamaError(f"{path}, {record.where}: {error}{hint}") from None
