"""A suite: cases with a name, and where they come from.

A conversation file may be in any form that ``callama clean`` reads. Records that cannot be read are
counted and put aside, never fatal: a broken line must not cost the answers to the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError
from callama.common.files import sha256_file
from callama.contract.messages import Conversation
from callama.contract.tool_uses import parse_answer
from callama.data.formats import hermes
from callama.data.formats.registry import clean_record
from callama.data.quarantine import DropError, quarantine_line
from callama.data.records import Record, read_records
from callama.evaluate.cases import Case, cases_of
from callama.evaluate.model import Model
from callama.evaluate.reply import Reply
from callama.evaluate.score import Outcome

Keep = Callable[[int, Reply], None]


def _at_once(model: Model, cases: Sequence[Case], keep: Keep) -> None:
    model.answer(cases, keep)


def _as_scored(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return list(outcomes)


@dataclass(frozen=True)
class Suite:
    """``facts`` say what it is made of; ``ask`` puts cases to a model, which may take several questions each;
    ``settle`` lets an outside checker have the last word on outcomes; ``quarantine`` are lines about records
    that could not be read."""

    name: str
    cases: list[Case]
    facts: dict[str, Any]
    ask: Callable[[Model, Sequence[Case], Keep], None] = _at_once
    settle: Callable[[Sequence[Outcome]], list[Outcome]] = _as_scored
    quarantine: list[str] = field(default_factory=list)


def load_file(path: Path, limit: int | None = None) -> Suite:
    """The cases of a conversation file; ``limit`` takes that many readable conversations from its start.

    Raises:
        UsageError: no such file. CallamaError: no record can be read, or there is no assistant turn in them.
    """
    conversations: list[Conversation] = []
    quarantine: list[str] = []
    reasons: Counter[str] = Counter()
    first_fault = ""
    for record in read_records(path):
        if len(conversations) == limit:
            break
        try:
            conversations.append(_read(record))
        except DropError as error:
            reasons[error.reason.value] += 1
            quarantine.append(quarantine_line(record, error))
            first_fault = first_fault or f"{path}, {record.where}: {error.detail or error.reason.sentence}"
    if not conversations:
        raise CallamaError(f"no record of {path} can be read; the first fault: {first_fault}")
    cases = cases_of(conversations)
    if not cases:
        raise CallamaError(f"{path} holds no assistant turn to test; expected conversations with answers")
    facts = {"file": path.name, "sha256": sha256_file(path), "cases": len(cases), "broken_records": dict(reasons)}
    return Suite(path.name, cases, facts, quarantine=quarantine)


def _read(record: Record) -> Conversation:
    """A record in our own form is taken as it stands; every other one is read as ``callama clean`` reads it."""
    if isinstance(record.value, dict) and "messages" in record.value:
        try:
            conversation = Conversation.from_dict(record.value)
        except CallamaError:
            pass
        else:
            if _is_ours(record.value, conversation):
                return conversation
    return clean_record(record)[0]


def _is_ours(value: dict[str, Any], conversation: Conversation) -> bool:
    """Whether nothing was passed over or written anew in reading, and no text is a call or shows tools: what stands
    there in another form's words (Hermes' tags, OpenAI's older ``functions``) would be tested as mere talk."""
    texts = [m.content for m in conversation.messages if m.role == "assistant" and m.content]
    same = conversation.to_dict() == value and not hermes.matches(value)
    return same and all(parse_answer(text).kind == "text" for text in texts)
