"""Raw records from a JSON list, JSON Lines or Parquet, one at a time, so that memory does not grow with the file.

Finding records (``Scan``) and reading them (``decoded``) are two steps, so that reading can
happen in other processes. A damaged line, or a record that is too long or that no reader can hold,
comes out as a record with a ``fault``: the caller counts it. Damage that hides where the next
record starts is an error, because what follows would be guesswork. Lines end at ``\\n`` only;
U+0085 and U+2028 are text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, TextIO

import orjson

from callama.common.errors import CallamaError
from callama.contract.messages import load_line
from callama.data.sources import HEAD_CHARS, inner_suffix, open_text, packing_of, parquet_count, parquet_rows

CHUNK_CHARS = 1 << 20
MAX_RECORD_CHARS = 16 << 20
_SPACE = " \t\r\n"
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)
_SCALAR_END = re.compile(r"[,\]\s]")
_SCALAR = re.compile(r"[^,\]\s]*+")
_BETWEEN_BRACKETS = re.compile(r'[^"\[\]{}]*+')
_INSIDE_TEXT = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_LINES_SUFFIXES = (".jsonl", ".ndjson")
# The longest token whose cut reads as an error before the cut: "\ud83d\ude00", half of it missing.
_CUT_TOKEN_CHARS = 16


class Record(NamedTuple):
    """One record. ``number`` counts from 0; ``where`` is for people; ``raw`` is its text in the file
    (empty where it was read already, and for Parquet, which has none).

    ``fault`` says why there is no ``value``; it is empty for a readable record. ``chars``
    is its length in the file, 0 where that is not known.
    """

    number: int
    where: str
    raw: str
    value: Any = None
    fault: str = ""
    chars: int = 0

    @property
    def too_long(self) -> bool:
        """Whether it was not read because of its length; ``raw`` is only its beginning then."""
        return self.chars > MAX_RECORD_CHARS


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("an object has a key twice: one of its values would be lost")
    return out


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
# Finds where an element ends: objects become tuples of pairs, and what is wrong inside is ``decoded``'s to say.
_SCANNER = json.JSONDecoder(object_pairs_hook=tuple)


def decoded(record: Record) -> Record:
    """The record with its value read, or with the fault that keeps it from being read."""
    if not record.raw or record.fault or record.value is not None:
        return record
    if (value := load_line(record.raw)) is not None:
        return record._replace(value=value)
    try:
        return record._replace(value=_DECODER.decode(record.raw))
    except RecursionError:
        return record._replace(fault="nested too deeply")
    except ValueError as error:
        return record._replace(fault=f"not JSON: {error}")


def read_records(path: Path) -> Iterator[Record]:
    """Yields the records of a file with their values; errors as in ``Scan``, and one more.

    Raises:
        CallamaError: a file of lines has not one that can be read.
    """
    records = Scan(path)

    def read() -> Iterator[Record]:
        readable, first_fault = False, ""
        for record in map(decoded, records):
            readable = readable or not record.fault
            first_fault = first_fault or (record.fault and f"{record.where}: {record.fault}")
            yield record
        if not readable:
            raise CallamaError(f"{path} is neither a JSON list nor JSON Lines: {first_fault}; no line can be read")

    return read()


class Scan(Iterator[Record]):
    """The records of a file, not yet ``decoded``; what the file is, its content decides.

    Raises:
        UsageError: no file is there, or none that may be read (at the call, not at the first record).
        CallamaError: the file is empty or of no known form, with the place; or it breaks off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._disk: BinaryIO | None = None
        self._share = 0.0
        self._records = self._parquet() if packing_of(path) == "parquet" else self._text()

    def __next__(self) -> Record:
        return next(self._records)

    @property
    def progress(self) -> float:
        """Between 0 and 1. For packed files it is the share of packed bytes."""
        return self._share if self._disk is None else self._disk.tell() / max(self._path.stat().st_size, 1)

    def _parquet(self) -> Iterator[Record]:
        count = parquet_count(self._path)
        if not count:
            raise CallamaError(f"{self._path} has no rows")
        for number, (value, size) in enumerate(parquet_rows(self._path, MAX_RECORD_CHARS)):
            self._share = (number + 1) / count
            if size > MAX_RECORD_CHARS:
                yield _too_long(number, f"row {number}", json.dumps(value), size, "bytes")
            else:
                yield Record(number, f"row {number}", "", value)

    def _text(self) -> Iterator[Record]:
        with open_text(self._path) as opened:
            head = opened.text.read(CHUNK_CHARS)
        start = head.lstrip(_SPACE)
        if not start:
            raise CallamaError(f"{self._path} is empty; expected a JSON list, JSON Lines or Parquet")
        lines = inner_suffix(self._path) in _LINES_SUFFIXES
        first_line, _, rest = start.partition("\n")
        with open_text(self._path) as opened:
            self._disk = opened.disk
            if start[0] == "[" and not (lines and _is_line(first_line, rest)):
                yield from _list_records(self._path, _Window(opened.text))
            elif lines or (start[0] == "{" and (_parses(first_line) or not rest)):
                yield from _line_records(opened.text)
            else:
                line = head[: len(head) - len(start)].count("\n") + 1
                raise CallamaError(
                    f"{self._path} is neither a JSON list nor JSON Lines: line {line} starts with {start[:40]!r}; "
                    'expected "[" or one {…} a line'
                )
            self._disk, self._share = None, 1.0


def _is_line(first: str, rest: str) -> bool:
    """Whether a text that opens with a bracket is lines all the same: its first line, or, where that one is
    damaged, the second is a record. A list's lines are none, because they end with a comma or a bracket."""
    second = rest.lstrip(_SPACE).partition("\n")[0]
    if not second or _parses(first):
        return bool(second)
    return first.strip(_SPACE) != "[" and second[0] == "{" and _parses(second)


def _parses(text: str) -> bool:
    try:
        _DECODER.decode(text.strip(_SPACE))
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _line_records(file: TextIO) -> Iterator[Record]:
    number, line_number = 0, 0
    while line := file.readline(MAX_RECORD_CHARS + 1):
        line_number += 1
        if len(line) > MAX_RECORD_CHARS:
            yield _too_long(number, f"line {line_number}", line, len(line) + _skip_line(file, line))
            number += 1
            continue
        text = line.strip(_SPACE)
        if text:  # a blank line separates records; it is none
            yield Record(number, f"line {line_number}", text, chars=len(text))
            number += 1


def _skip_line(file: TextIO, line: str) -> int:
    """Takes the rest of a line whose beginning was read; its number of characters."""
    chars = 0
    while line and not line.endswith("\n"):
        line = file.readline(CHUNK_CHARS)
        chars += len(line)
    return chars


def _too_long(number: int, where: str, text: str, chars: int, unit: str = "characters") -> Record:
    fault = f"{chars:,} {unit} long, more than the {MAX_RECORD_CHARS:,} that are read; only its beginning is kept"
    return Record(number, where, text[:HEAD_CHARS], fault=fault, chars=chars)


class _Window:
    """The part of a text file that is being decoded: ``text[position:]`` is what was not taken yet."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._before = 0
        self.text, self.position, self.at_end = "", 0, False

    @property
    def offset(self) -> int:
        """Characters of the file taken so far."""
        return self._before + self.position

    def grow(self) -> None:
        """Drops what was taken and reads at least as much again as is held: linear in total."""
        self._before += self.position
        held = self.text[self.position :]
        chunk = self._file.read(max(CHUNK_CHARS, len(held)))
        self.at_end = not chunk
        self.text, self.position = held + chunk, 0

    def pass_over(self, run: re.Pattern[str]) -> str:
        """Takes what ``run`` matches from here on, however much it is; the character behind it, not taken.

        At the file's end that is nothing, or a backslash behind which the character that it escapes is missing.
        """
        while True:
            match = run.match(self.text, self.position)
            assert match is not None
            self.position = match.end()
            char = self.text[self.position : self.position + 1]
            if char not in ("", "\\") or self.at_end:
                return char
            self.grow()

    def next_char(self) -> str:
        """The next character that is no white space, not taken; empty at the file's end."""
        while not (match := _NOT_SPACE.search(self.text, self.position)):
            self.position = len(self.text)
            if self.at_end:
                return ""
            self.grow()
        self.position = match.start()
        return match[0]


def _list_records(path: Path, window: _Window) -> Iterator[Record]:
    window.next_char()
    window.position += 1
    number = 0
    char = window.next_char()
    if char == "]":
        raise CallamaError(f"{path} is an empty list; expected records")
    while True:
        yield _take_element(path, window, number)
        number += 1
        char = window.next_char()
        window.position += 1
        if char == "]":
            break
        if char != ",":
            found = repr(char) if char else "the end of the file"
            raise CallamaError(
                f"{path}, character {window.offset:,}, behind record {number - 1}: expected ',' or ']', found {found}"
            )
        window.next_char()
    if char := window.next_char():
        raise CallamaError(f"{path}, character {window.offset:,}: {char!r} behind the list's end")


def _take_line(window: _Window, where: str, number: int) -> Record | None:
    """The element that makes up the rest of the line, as cleaning writes it; None where that cannot be told at once."""
    end = window.text.find("\n", window.position)
    if not 0 < end - window.position <= MAX_RECORD_CHARS:
        return None
    raw = window.text[window.position : end].rstrip(_SPACE).removesuffix(",")
    if not raw or raw[0] not in "{[" or raw[-1] not in "}]":
        return None
    try:
        orjson.loads(raw)  # much faster than the scanner, which takes what this refuses
    except orjson.JSONDecodeError:
        return None
    window.position += len(raw)
    return Record(number, where, raw, chars=len(raw))


def _take_element(path: Path, window: _Window, number: int) -> Record:
    where = f"record {number}"
    if record := _take_line(window, where, number):
        return record
    while True:
        fault, value = "", None
        end: int | None
        try:
            value, end = _SCANNER.raw_decode(window.text, window.position)
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated") or error.pos >= len(window.text) - _CUT_TOKEN_CHARS
            if window.at_end or not cut:
                place = window.offset - window.position + error.pos
                raise CallamaError(f"{path}, {where}, character {place:,}: not JSON ({error.msg})") from None
            end = None
        except RecursionError:
            fault, end = "nested too deeply", _element_end(window)
        except ValueError as error:  # a constant or a number that JSON or Python does not take
            fault, end = f"not JSON: {error}", _element_end(window)
        # A number may go on behind what is in sight: "12" of "12.5".
        needed = _CUT_TOKEN_CHARS if window.text[window.position] in "-0123456789" else 1
        if end is not None and (end + needed <= len(window.text) or window.at_end):
            if end - window.position > MAX_RECORD_CHARS:
                return _skip_element(path, window, number)
            raw = window.text[window.position : end]
            window.position = end
            if type(value) is tuple and all(type(text) is str for _, text in value) and len(dict(value)) == len(value):
                return Record(number, where, "", dict(value), "", len(raw))
            # As text: that is handed to another process in a fraction of the time that a nested value takes.
            return Record(number, where, raw, None, fault, len(raw))
        if window.at_end:
            raise CallamaError(f"{path}, {where}: the file ends inside this record")
        if len(window.text) - window.position > MAX_RECORD_CHARS:
            return _skip_element(path, window, number)
        window.grow()


def _skip_element(path: Path, window: _Window, number: int) -> Record:
    """Takes an element of any length without decoding or holding it: only where texts and brackets end counts."""
    where, start = f"record {number}", window.offset
    head = window.text[window.position : window.position + HEAD_CHARS]
    scalar, depth, quoted = head[0] not in '[{"', 0, False
    while True:
        char = window.pass_over(_SCALAR if scalar else _INSIDE_TEXT if quoted else _BETWEEN_BRACKETS)
        if char in ("", "\\"):
            raise CallamaError(f"{path}, {where}: the file ends inside this record")
        window.position += not scalar
        if char == '"':
            quoted = not quoted
        elif not scalar:
            depth += 1 if char in "[{" else -1
        if depth == 0 and not quoted:
            return _too_long(number, where, head, window.offset - start)


def _element_end(window: _Window) -> int | None:
    """Where the element at the window's position ends, found without decoding it; None: not in sight."""
    if window.text[window.position] not in "[{":
        match = _SCALAR_END.search(window.text, window.position)
        return match.start() if match else None
    depth = 0
    for match in _BRACKETS.finditer(window.text, window.position):
        token = match[0]
        if token == '"':
            return None
        depth += (token in ("[", "{")) - (token in ("]", "}"))
        if depth == 0:
            return match.end()
    return None
