"""One tokenizer for every file format it may come in.

Ordinary text and special tokens never mix: ``encode`` turns text into ordinary tokens only, however
much the text looks like markup, and special tokens are reached by name. All formats are byte-level
BPE, so each id stands for some bytes, and decoding is joining them.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tiktoken
import tokenizers

from callama.common.errors import CallamaError, UsageError
from callama.common.files import sha256_file, why_no_json

TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json")
_PLAIN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
)
_AHEAD_PATTERN = r"|\s+(?!\S)|\s+"
LLAMA3_PATTERN = _PLAIN_PATTERN + _AHEAD_PATTERN
# tiktoken's time grows with the square of a run without spaces, so Meta's tokenizer cuts text at these.
MAX_CHUNK_CHARS, MAX_RUN_CHARS = 400_000, 25_000
_RUN = re.compile(r"\s+|\S+")
LLAMA3_RANKS = 128_000
_LLAMA3_NAMED = {
    0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id",
    7: "end_header_id", 8: "eom_id", 9: "eot_id", 10: "python_tag",
}  # fmt: skip
LLAMA3_SPECIALS = 256
MAX_TOKENS = 10_000_000


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
        """Ids of ordinary tokens that spell the text, byte for byte; what looks like a special token stays text.

        Raises:
            CallamaError: the vocabulary lacks a byte of the text (SmolLM2's lacks a few control characters).
        """
        return self._encode(text)

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
        return b"".join(map(self.pieces.__getitem__, ids)).decode("utf-8", errors="replace")


def _chunks(text: str) -> Iterator[str]:
    for start in range(0, len(text), MAX_CHUNK_CHARS):
        chunk, last = text[start : start + MAX_CHUNK_CHARS], 0
        for run in _RUN.finditer(chunk) if len(chunk) > MAX_RUN_CHARS else ():
            for cut in range(run.start() + MAX_RUN_CHARS, run.end(), MAX_RUN_CHARS):
                yield chunk[last:cut]
                last = cut
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


def read_ranks(path: Path) -> dict[bytes, int]:
    """Meta's format: one ``base64-bytes rank`` a line (llama-models, ``llama3/tokenizer.py``).

    Raises:
        CallamaError: the file is not Llama 3's ``tokenizer.model``, or damaged.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            token, number_text = line.split()
            ranks[binascii.a2b_base64(token, strict_mode=True)] = int(number_text)
        except (ValueError, binascii.Error):
            raise CallamaError(
                f"{path}, line {number}: expected 'base64 rank'; not a Llama 3 tokenizer.model"
            ) from None
    if not ranks or sorted(ranks.values()) != list(range(len(ranks))):
        raise CallamaError(f"{path}: ranks are not 0 … {len(ranks) - 1}; the file is empty or damaged")
    if len(ranks) != LLAMA3_RANKS:
        raise CallamaError(
            f"{path} has {len(ranks):,} tokens, Llama 3's tokenizer.model {LLAMA3_RANKS:,}; "
            "the file is cut short or belongs to another model"
        )
    return ranks


def llama3_specials() -> dict[str, int]:
    """Ids of Llama 3's 256 special tokens by name (llama-models, ``llama3/tokenizer.py``)."""
    specials, reserved = {}, 0
    for offset in range(LLAMA3_SPECIALS):
        name = _LLAMA3_NAMED.get(offset)
        if name is None:
            name, reserved = f"reserved_special_token_{reserved}", reserved + 1
        specials[f"<|{name}|>"] = LLAMA3_RANKS + offset
    return specials


def _load_tiktoken(path: Path) -> Tokenizer:
    ranks, specials = read_ranks(path), llama3_specials()
    # In a group of their own, what needs no look-ahead is matched at once, in three quarters of the time.
    pattern = f"(?:{_PLAIN_PATTERN}){_AHEAD_PATTERN}"
    encoding = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
    pieces = [b""] * LLAMA3_RANKS
    for piece, rank in ranks.items():
        pieces[rank] = piece
    pieces += [name.encode() for name in specials]

    def encode(text: str) -> list[int]:
        if len(text) <= MAX_RUN_CHARS:
            return encoding.encode_ordinary(text)
        return [token for chunk in _chunks(text) for token in encoding.encode_ordinary(chunk)]

    return Tokenizer(path, pieces, specials, encode)


def _byte_letters() -> dict[str, int]:
    """GPT-2's table of a printable letter for each byte (openai/gpt-2, ``encoder.py``), inverted."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


_BYTE_LETTERS = _byte_letters()
BYTE_TO_LETTER = {byte: letter for letter, byte in _BYTE_LETTERS.items()}
# What a normaliser would compose, strip or lower, and where a space would be put in.
_PROBE = "A\tb  É e\u0301 ﬁ ① 北京 😀 \u200d\r\n "


def not_bpe(path: Path, why: str) -> CallamaError:
    """What to say of a file that is no ``tokenizer.json`` of ours."""
    return CallamaError(f"{path} is not a tokenizer.json of byte-level BPE: {why}; copy or download the file again")


def _merge(number: int, merge: Any, known: Container[str]) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"merge {number} is {merge!r}, expected two tokens")
    for token in (*parts, "".join(parts)):
        if token not in known:
            raise ValueError(f"merge {number} is {merge!r}, but {token!r} is no token of its vocabulary")
    return parts[0], parts[1]


def _load_tokenizers_json(path: Path) -> Tokenizer:
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise not_bpe(path, why_no_json(error)) from None
    return tokenizer_of_spec(spec, path)


def tokenizer_of_spec(given: Any, path: Path) -> Tokenizer:
    """The tokenizer that the content of a ``tokenizer.json`` describes; ``path`` is the file that it came from.

    Raises:
        CallamaError: it is damaged, or not byte-level BPE.
    """
    if not isinstance(given, Mapping):
        raise not_bpe(path, "it holds no JSON object")
    try:
        model: dict[str, Any] = dict(given["model"])
        if not isinstance(model["vocab"], dict):
            raise ValueError("its vocab is no object of tokens and ids")
        vocab: dict[str, int] = dict(model["vocab"])
        added = {t["content"]: t["id"] for t in given.get("added_tokens") or ()}
        size = max([*vocab.values(), *added.values()]) + 1
        if min([*vocab.values(), *added.values()]) < 0 or size > MAX_TOKENS:
            raise ValueError(f"ids beyond 0 … {MAX_TOKENS - 1:,}")
        merges = enumerate(model["merges"], 1)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"it has no key {error}" if isinstance(error, KeyError) else str(error)
        raise not_bpe(path, why) from None
    ordinary = {token: i for token, i in vocab.items() if token not in added}
    pieces = [b""] * size
    for token, token_id in ordinary.items():
        if not all(c in _BYTE_LETTERS for c in token):
            raise CallamaError(f"{path}: token {token!r} is not byte-level BPE, the only kind callama reads")
        pieces[token_id] = bytes(_BYTE_LETTERS[c] for c in token)
    for name, token_id in added.items():
        pieces[token_id] = name.encode()
    known = {*vocab, *added}
    try:
        pairs = [_merge(number, merge, known) for number, merge in merges]
    except ValueError as error:
        raise not_bpe(path, str(error)) from None
    # A name that the library does not know cannot come out of ordinary text, wherever the merges lead.
    model |= {"vocab": ordinary, "dropout": None}
    model["merges"] = [m for m in pairs if added.keys().isdisjoint((*m, "".join(m)))]
    spec = {**given, "model": model, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    try:
        library = tokenizers.Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library raises bare Exception for anything wrong in the file
        raise CallamaError(f"{path} is not a tokenizer.json ({error})") from None

    def spell(text: str) -> tuple[list[int], bool]:
        ids: list[int] = library.encode(text, add_special_tokens=False).ids
        return ids, b"".join([pieces[i] for i in ids]) == text.encode()

    def encode(text: str) -> list[int]:
        ids, whole = spell(text)
        if not whole:
            lost = next((c for c in text if not spell(c)[1]), text[:40])
            raise CallamaError(f"{path} has no tokens that spell {lost!r}; take such text out of the conversation")
        return ids

    if not spell(_PROBE)[1]:
        raise CallamaError(f"{path} changes text before it cuts it into tokens; callama needs it as it is")
    return Tokenizer(path, pieces, added, encode)
