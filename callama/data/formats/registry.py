"""Which format a record has, and its conversation. ``labels`` that a conversation in canonical form brings are kept.

Each record is looked at by itself, most particular format first, so that a file may mix formats and
no state depends on where in the file a record stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from callama.common.errors import CallamaError
from callama.contract.jsontext import check_json
from callama.contract.messages import Conversation
from callama.data.formats import hermes, openai_chat, query_answers, sharegpt, toolace
from callama.data.formats.draft import Draft, finish
from callama.data.formats.dress import glaives, refuse_hidden_tools, undressed
from callama.data.glaive.rows import read_row, read_turns
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair
from callama.data.records import Record


class Format(NamedTuple):
    """How a format is recognised and read."""

    matches: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Draft]


GLAIVE, HERMES, OPENAI = "glaive", "hermes", "openai"
_FORMATS = {
    "xlam": Format(query_answers.matches, query_answers.read),
    "toolace": Format(toolace.matches, toolace.read),
    HERMES: Format(hermes.matches, hermes.read),
    "sharegpt": Format(sharegpt.matches, sharegpt.read),
    OPENAI: Format(openai_chat.matches, openai_chat.read),
}
FORMATS = (GLAIVE, *_FORMATS)
# What glaive's rows are converted to, with its own words for functions and calls left in.
_DRESSES = (GLAIVE, "sharegpt", OPENAI)


def clean_record(record: Record, format_name: str | None = None) -> tuple[Conversation, tuple[Repair, ...]]:
    """The checked conversation of a record, and everything that was changed to get it.

    ``format_name`` is one of ``FORMATS`` or None: what the record looks like.

    Raises:
        DropError: the record cannot be kept; nothing else, whatever it holds.
    """
    if record.fault:
        reason = Drop.RECORD_TOO_LONG if record.too_long else Drop.UNREADABLE_RECORD
        raise DropError(reason, record.fault, record.raw)
    value = record.value
    if not isinstance(value, dict):
        raise DropError(Drop.NOT_AN_OBJECT, f"found a {type(value).__name__}", record.raw)
    given = {key: inner for key, inner in value.items() if inner is not None}  # an empty column says nothing
    try:
        if "chat" not in given:
            given = undressed(given)
        name = format_name or (GLAIVE if "chat" in given else _detect(value, given))
        if name in _DRESSES and "chat" not in given and (row := glaives(given)):
            name = GLAIVE
            conversation, repairs = read_turns(*row)
        else:
            conversation, repairs = read_row(value) if name == GLAIVE else finish(_FORMATS[name].read(given))
        if not conversation.tools and name != GLAIVE:
            refuse_hidden_tools(value, name)
        if earlier := given.get("labels") if "messages" in given and name in (OPENAI, HERMES) else None:
            check_json(earlier)
    except (CallamaError, RecursionError) as error:
        raise DropError(Drop.WRONG_SHAPE, str(error)) from None
    kept = earlier if isinstance(earlier, dict) else {}
    labels = {**kept, "source": name, "row": record.number, "repairs": [repair.value for repair in repairs]}
    return Conversation(conversation.messages, conversation.tools, labels), tuple(repairs)


def _detect(value: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    for name, form in _FORMATS.items():
        if form.matches(given):
            return name
    if "chat" in value:
        return GLAIVE
    keys = ", ".join(str(key)[:40] for key in list(value)[:8])
    raise DropError(Drop.UNKNOWN_FORMAT, f"its keys are {keys or 'none'}; known: {', '.join(FORMATS)}")
