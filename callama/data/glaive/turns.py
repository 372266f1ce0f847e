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
_OPENING = re.compile(r"(<\|endoftext\|>[ \t\r\n]*|\n\r?\n)(USER|ASSISTANT|FUNCTION RESPONSE):")
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
    # Two newlines in front let the first keyword open its turn like every other one.
    head, *parts = _OPENING.split("\n\n" + chat.lstrip(SPACE))
    if not parts or head.strip(SPACE):
        raise DropError(Drop.NO_TURNS, "", chat[:200])
    # A marker in front of the next turn's keyword belongs to this turn.
    behind = [*parts[3::3], ""]
    return [
        turn_of(_ROLES[role], raw, gap.startswith("<"))
        for role, raw, gap in zip(parts[1::3], parts[2::3], behind, strict=True)
    ]


def turn_of(role: Role, raw: str, marked: bool = False) -> Turn:
    """A turn of this text without the end markers at its end; ``marked``: another one stood behind it."""
    ends = int(marked)
    if END_OF_TEXT not in raw:
        return Turn(role, raw, ends)
    position = end = len(raw)
    while True:
        while position and raw[position - 1] in SPACE:
            position -= 1
        if not raw.endswith(END_OF_TEXT, 0, position):
            return Turn(role, raw[:end], ends)
        position = end = position - len(END_OF_TEXT)
        ends += 1
