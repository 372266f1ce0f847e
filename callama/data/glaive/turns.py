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
    starts = [m for m in _KEYWORD.finditer(chat) if _opens_turn(chat, m.start())]
    if not starts or chat[: starts[0].start()].strip(SPACE):
        raise DropError(Drop.NO_TURNS, "", chat[:200])
    ends = [m.start() for m in starts[1:]] + [len(chat)]
    return [_turn(_ROLES[m[1]], chat, m.end(), end) for m, end in zip(starts, ends, strict=True)]


def _opens_turn(chat: str, start: int) -> bool:
    if start == 0 or chat.endswith(("\n\n", "\n\r\n"), 0, start):
        return True
    behind = start
    while behind and chat[behind - 1] in SPACE:
        behind -= 1
    return behind == 0 or chat.endswith(END_OF_TEXT, 0, behind)


def _turn(role: Role, chat: str, start: int, end: int) -> Turn:
    ends = 0
    position = end
    while True:
        while position > start and chat[position - 1] in SPACE:
            position -= 1
        if not chat.endswith(END_OF_TEXT, start, position):
            break
        position -= len(END_OF_TEXT)
        ends += 1
        end = position
    return Turn(role, chat[start:end], ends)
