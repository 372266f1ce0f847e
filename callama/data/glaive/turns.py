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
_OPENING = re.compile(r"(?:\A[ \t\r\n]*|\n\r?\n|<\|endoftext\|>[ \t\r\n]*)(USER|ASSISTANT|FUNCTION RESPONSE):")
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
    openings = list(_OPENING.finditer(chat))
    if not openings or chat[: openings[0].start()].strip(SPACE):
        raise DropError(Drop.NO_TURNS, "", chat[:200])
    ends = [m.start() for m in openings[1:]] + [len(chat)]
    return [_turn(chat, m, end) for m, end in zip(openings, ends, strict=True)]


def _turn(chat: str, opening: re.Match[str], end: int) -> Turn:
    start = opening.end()
    # The next turn's opening has taken the marker in front of it.
    ends = int(chat.startswith(END_OF_TEXT, end))
    position = end
    while True:
        while position > start and chat[position - 1] in SPACE:
            position -= 1
        if not chat.endswith(END_OF_TEXT, start, position):
            return Turn(_ROLES[opening[1]], chat[start:end], ends)
        position -= len(END_OF_TEXT)
        ends += 1
        end = position
