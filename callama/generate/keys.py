"""Watches JSON as it is written, token by token, for a key that an object already has.

RFC 8259 leaves repeated keys to the reader and ours refuses them; no context-free grammar can.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace


@dataclass
class KeyWatch:
    """Reads bytes; sleeps until it has seen ``opening``, whose brackets it counts as open."""

    opening: bytes
    _awake: bool = False
    _tail: bytes = b""  # the end of what was read asleep; awake, the string that is being written
    _in_string: bool = False
    _escaped: bool = False
    # One set of keys for each open object, None for each open array.
    _open: list[set[str] | None] = field(default_factory=list)
    _key_next: bool = False

    def read(self, piece: bytes) -> bool:
        """Takes the next bytes; False, and nothing is taken, if a key in them is repeated."""
        if not self._awake:
            seen = self._tail + piece
            at = seen.find(self.opening)
            if at < 0:
                self._tail = seen[-len(self.opening) :]
                return True
            self._awake, self._tail, piece = True, b"", seen[at + len(self.opening) :]
        if b'"' not in piece:  # nothing else can end a key
            return all(map(self._take, piece))
        tried = replace(self, _open=[keys if keys is None else set(keys) for keys in self._open])
        if not all(map(tried._take, piece)):
            return False
        self.__dict__.update(tried.__dict__)
        return True

    def _take(self, byte: int) -> bool:
        char = chr(byte)
        if self._in_string:
            if not self._escaped and char == '"':
                self._in_string = False
                return self._string_ends()
            self._escaped = char == "\\" and not self._escaped
            self._tail += bytes((byte,))
        elif char == '"':
            self._in_string, self._escaped, self._tail = True, False, b""
        elif char in "{[":
            self._open.append(set() if char == "{" else None)
            self._key_next = char == "{"
        elif char in "}]":
            if self._open:
                self._open.pop()
        elif char == ",":
            self._key_next = bool(self._open) and self._open[-1] is not None
        return True

    def _string_ends(self) -> bool:
        keys = self._open[-1] if self._open else None
        if self._key_next and keys is not None:
            self._key_next = False
            key = json.loads(b'"' + self._tail + b'"')
            if key in keys:
                return False
            keys.add(key)
        return True
