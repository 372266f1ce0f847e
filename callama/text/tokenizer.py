"""One tokenizer for every file format it may come in.

Ordinary text and special tokens never mix: ``encode`` turns text into ordinary tokens only, however
much the text looks like markup, and special tokens are reached by name. All formats are byte-level
BPE, so each id stands for some bytes, and decoding is joining them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tiktoken
import tokenizers

from callama.common.errors import CallamaError, UsageError
from callama.common.files import sha256_file

TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json")
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# tiktoken's time grows with the square of a run without spaces; Meta's tokenizer cuts at these, too.
MAX_CHUNK_CHARS = 400_000
_LONG_RUN = re.compile(r"\S{25000}|\s{25000}")
_LLAMA3_NAMED = {
    0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id",
    7: "end_header_id", 8: "eom_id", 9: "eot_id", 10: "python_tag",
}  # fmt: skip
LLAMA3_SPECIALS = 256


@dataclass(frozen=True)
class Tokenizer:
    """Byte-level BPE from ``file``. ``pieces[id]`` are the bytes of a token (a special's: its name)."""

    file: Path
    pieces: list[bytes]
    special_tokens: dict[str, int]
    _encode: Callable[[str], list[int]]

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.pieces)

    @cached_property
    def sha256(self) -> str:
        """sha256 of the tokenizer's file: data sets and checkpoints are compared by it."""
        return sha256_file(self.file)

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary tokens; text that spells a special token stays text."""
        ids: list[int] = []
        for chunk in _chunks(text):
            ids += self._encode(chunk)
        return ids

    def special(self, name: str) -> int:
        """Id of a special token such as ``<|eot_id|>``.

        Raises:
            CallamaError: this tokenizer has no such token.
        """
        if name not in self.special_tokens:
            raise CallamaError(f"{self.file} has no special token {name}")
        return self.special_tokens[name]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", errors="replace")


def _chunks(text: str) -> Iterable[str]:
    for start in range(0, len(text), MAX_CHUNK_CHARS):
        chunk = text[start : start + MAX_CHUNK_CHARS]
        last = 0
        for run in _LONG_RUN.finditer(chunk):
            yield chunk[last : run.end()]
            last = run.end()
        if last < len(chunk):
            yield chunk[last:]


def load_tokenizer(path: Path) -> Tokenizer:
    """Reads Meta's ``tokenizer.model`` or Hugging Face's ``tokenizer.json``; a folder is searched for either.

    Raises:
        UsageError: nothing there.
        CallamaError: the file is neither, or not byte-level BPE.
    """
    if path.is_dir():
        found = [path / name for name in TOKENIZER_FILES if (path / name).is_file()]
        if not found:
            raise UsageError(f"{path} holds no {' or '.join(TOKENIZER_FILES)}")
        path = found[0]
    if not path.is_file():
        raise UsageError(f"{path} does not exist; expected a tokenizer ({' or '.join(TOKENIZER_FILES)})")
    if path.suffix == ".json":
        return _load_tokenizers_json(path)
    return _load_tiktoken(path)


def _load_tiktoken(path: Path) -> Tokenizer:
    """Meta's format: one ``base64-bytes rank`` a line (llama-models, ``llama3/tokenizer.py``)."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            token, number_text = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(number_text)
        except (ValueError, binascii.Error):
            raise CallamaError(
                f"{path}, line {number}: expected 'base64 rank'; not a Llama 3 tokenizer.model"
            ) from None
    if not ranks or sorted(ranks.values()) != list(range(len(ranks))):
        raise CallamaError(f"{path}: ranks are not 0 … {len(ranks) - 1}; the file is empty or damaged")
    base, specials, reserved = len(ranks), {}, 0
    for offset in range(LLAMA3_SPECIALS):
        name = _LLAMA3_NAMED.get(offset)
        if name is None:
            name, reserved = f"reserved_special_token_{reserved}", reserved + 1
        specials[f"<|{name}|>"] = base + offset
    encoding = tiktoken.Encoding("llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens=specials)
    pieces = [b"" for _ in range(base)]
    for piece, rank in ranks.items():
        pieces[rank] = piece
    pieces += [name.encode() for name in specials]
    return Tokenizer(path, pieces, specials, encoding.encode_ordinary)


def _byte_letters() -> dict[str, int]:
    """GPT-2's table of a printable letter for each byte (openai/gpt-2, ``encoder.py``), inverted."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


def _load_tokenizers_json(path: Path) -> Tokenizer:
    try:
        spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        vocab: dict[str, int] = spec["model"]["vocab"]
        added = {t["content"]: t["id"] for t in spec.get("added_tokens") or ()}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CallamaError(f"{path} is not a tokenizer.json ({error!r})") from None
    # Without its added tokens the library has no way to find one of them in ordinary text.
    spec["added_tokens"], spec["post_processor"] = [], None
    letters = _byte_letters()
    pieces = [b""] * (max([*vocab.values(), *added.values()]) + 1)
    for token, token_id in vocab.items():
        if token not in added:
            if not all(c in letters for c in token):
                raise CallamaError(f"{path}: token {token!r} is not byte-level BPE, the only kind callama reads")
            pieces[token_id] = bytes(letters[c] for c in token)
    for name, token_id in added.items():
        pieces[token_id] = name.encode()
    try:
        library = tokenizers.Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library raises bare Exception for anything wrong in the file
        raise CallamaError(f"{path} is not a tokenizer.json ({error})") from None
    return Tokenizer(path, pieces, added, lambda text: library.encode(text, add_special_tokens=False).ids)
