"""Undoes glaive's replacement of ``AI:`` by ``ASSISTANT:`` inside content.

The generator's role marker was ``AI:``; where a title or a sentence held those letters, the text was
torn: into a new line inside a turn (``"\\nASSISTANT: A Modern Approach"``), or into a new assistant
turn behind an unfinished one. Only what its context proves is joined; the rest is refused.
"""

from __future__ import annotations

import re

from callama.common.errors import CallamaError
from callama.data.glaive.calls import parse_call
from callama.data.glaive.lenient import loads_lenient
from callama.data.glaive.turns import SPACE, Turn
from callama.data.quarantine import DropError
from callama.data.reasons import Drop

# Real rows have one or two; the limit keeps the work linear in a chat made of nothing else.
MAX_MENDED = 16
CALL_MARK = "<functioncall>"
_TORN = re.compile(r"(?<!\n)\nASSISTANT:")
_OPENERS = "“‘([{"
_NO_SPACE_BEHIND = _OPENERS + "\"'"
# No English sentence ends with one of these.
_GOES_ON = frozenset(
    ("a", "an", "and", "between", "called", "from", "into", "named", "of", "or", "the", "titled", "via")
)


def restore_ai_colon(turns: list[Turn]) -> tuple[list[Turn], int]:
    """The turns as they were before the damage, and how many places were mended.

    Raises:
        DropError: a place where damage and a real turn cannot be told apart.
    """
    out: list[Turn] = []
    count = 0
    for index, turn in enumerate(turns):
        if turn.role != "assistant" and "\nASSISTANT:" not in turn.raw:
            out.append(turn)
            continue
        turn, mended = _restore_inside(turn)
        count += mended
        follower = turns[index + 1].role if index + 1 < len(turns) else ""
        if turn.role == "assistant" and out and (joined := _rejoin(out[-1], turn, follower)):
            out[-1] = joined
            count += 1
        else:
            out.append(turn)
        if count > MAX_MENDED:
            raise DropError(Drop.ASSISTANT_COLON_UNCLEAR, f"more than {MAX_MENDED} places", turn.raw)
    return out, count


def _restore_inside(turn: Turn) -> tuple[Turn, int]:
    if "\nASSISTANT:" not in turn.raw:
        return turn, 0
    pieces = _TORN.split(turn.raw)
    in_json = CALL_MARK in pieces[0] or (turn.role == "tool" and turn.text[:1] in ("{", "["))
    quotes = 0
    for before in pieces[:-1]:
        quotes += before.count('"')
        if not (in_json or quotes % 2 or _sentence_goes_on(before)):
            place = f"{before[-100:]}\nASSISTANT:"
            raise DropError(Drop.ASSISTANT_COLON_UNCLEAR, "after one newline, behind a whole sentence", place)
    return Turn(turn.role, "AI:".join(pieces), turn.ends), len(pieces) - 1


def _sentence_goes_on(before: str) -> bool:
    end = before[-60:].rstrip(" ")
    words = end.split()
    # Nobody types a space and then a line break: in "Trends in Artificial \nASSISTANT:" it gives the tear away.
    torn_space = before.endswith(" ") and (end[-1:].isalnum() or end.endswith(","))
    return torn_space or end.endswith(tuple(_OPENERS)) or (bool(words) and words[-1].lower() in _GOES_ON)


def _rejoin(before: Turn, turn: Turn, follower: str) -> Turn | None:
    """The turn that ``before`` and ``turn`` were torn from; None where they are two turns."""
    open_quote = before.raw.count('"') % 2 == 1 and turn.raw.count('"') % 2 == 1
    if not open_quote and before.role != "assistant":
        return None
    gap = before.raw.rstrip("\r\n") if before.ends == 0 else before.raw
    if gap.rstrip(" ").endswith(tuple(_NO_SPACE_BEHIND)):
        gap = gap.rstrip(" ")
    joined = Turn(before.role, f"{gap}AI:{turn.raw}", turn.ends)
    if before.role == "tool":
        return joined if open_quote and not _is_whole(before) and _is_whole(joined) else None
    if before.role == "user":
        return joined if open_quote and follower == "assistant" else None
    if CALL_MARK in before.raw:
        return joined if open_quote and not _is_whole(before) and _is_whole(joined) else None
    if turn.text.startswith(CALL_MARK):
        return None
    if open_quote or (before.text and _sentence_goes_on(before.text)):
        return joined
    if before.text[-1:].isalnum() or before.text.endswith(","):
        if turn.raw.startswith("\n"):  # a turn of its own has a space behind the colon
            return joined
        raise DropError(
            Drop.ASSISTANT_COLON_UNCLEAR, "an assistant turn behind an unfinished one", before.text[-100:] + turn.raw
        )
    return None


def _is_whole(turn: Turn) -> bool:
    try:
        if turn.role == "assistant":
            parse_call(turn.raw.rpartition(CALL_MARK)[2])
        elif turn.text[:1] in ("{", "["):
            loads_lenient(turn.text.strip(SPACE))
    except (CallamaError, DropError):
        return False
    return True
