"""A glaive chat cut into turns at its role keywords.

A keyword opens a turn only behind two newlines or more, behind ``<|endoftext|>``, or at the start;
anywhere else it is content and stays. Everything else in a turn is kept as it is, white space at
its ends excepted.
"""

from __future__ import annotations

import re
from typing import Literal

from callama.data.quarantine import DropError
from callama.data.reasons import Drop

END_OF_TEXT = "<|endoftext|>"
# ASCII only: str.strip() without an argument also takes U+0085, U+00A0 and U+2028, which are content.
SPACE = " \t\r\n"
_KEYWORD = re.compile(r"(USER|ASSISTANT|FUNCTION RESPONSE):")
Role = Literal["user", "assistant", "tool"]
_ROLES: dict[str, Role] = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}


class Turn:
    """One turn, never changed once made. ``raw`` is its text behind the colon, line breaks and all, up
    to the end markers; ``text`` the same without ASCII white space at both ends; ``ends`` counts the
    ``<|endoftext|>`` at its end."""

    __slots__ = ("ends", "raw", "role", "text")

    def __init__(self, role: Role, raw: str, ends: int = 0) -> None:
        self.role, self.raw, self.ends = role, raw, ends
        self.text = raw.strip(SPACE)


def split_turns(chat: str) -> list[Turn]:
    """Cuts a chat into its turns. Linear in its length.

    Raises:
        DropError: something other than a role keyword stands at the start.
    """
    # (end of the turn before, role, start of this one's text)
    openings = [
        (end, _ROLES[match[1]], match.end())
        for match in _KEYWORD.finditer(chat)
        if (end := _end_before(chat, match.start())) is not None
    ]
    if not openings or chat[: openings[0][0]].strip(SPACE):
        raise DropError(Drop.NO_TURNS, "", chat[:200])
    ends = [end for end, _, _ in openings[1:]] + [len(chat)]
    return [_turn(chat, role, start, end) for (_, role, start), end in zip(openings, ends, strict=True)]


def _end_before(chat: str, start: int) -> int | None:
    """Where the turn before a keyword at ``start`` ends; None: the keyword opens no turn."""
    position = start
    while position and chat[position - 1] in SPACE:
        position -= 1
    if chat.endswith(END_OF_TEXT, 0, position):
        return position - len(END_OF_TEXT)
    if not position:
        return 0
    gap = chat[position:start]
    return next((start - len(lines) for lines in ("\n\n", "\n\r\n") if gap.endswith(lines)), None)


def _turn(chat: str, role: Role, start: int, end: int) -> Turn:
    # A marker in front of the next turn's keyword belongs to this turn.
    ends = int(chat.startswith(END_OF_TEXT, end))
    position = end
    while True:
        while position > start and chat[position - 1] in SPACE:
            position -= 1
        if not chat.endswith(END_OF_TEXT, start, position):
            return Turn(role, chat[start:end], ends)
        position -= len(END_OF_TEXT)
        ends += 1
        end = position
