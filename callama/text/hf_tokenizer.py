"""Hugging Face's ``tokenizer.json`` and Meta's ``tokenizer.model`` into one another, and the marks that
let a chat template say what its text alone cannot.

A template renders one string, which is then cut into tokens as a whole; callama cuts every turn's
text apart from its frame. Two Unicode noncharacters make up for it. ``SPLIT`` is taken out by the
pre-tokenizer, which cuts there: what stands before and behind it never becomes one token.
``PLAIN`` is taken out by the normaliser, after special tokens were looked for: a special token's
name with it inside stays text. In a text without them nothing changes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError
from callama.common.files import read_json
from callama.text.gguf_vocab import CONTROL, pre_tokenizer, tokenizer_json
from callama.text.tokenizer import BYTE_TO_LETTER, LLAMA3_RANKS, llama3_specials, not_bpe, read_ranks

SPLIT, PLAIN = "\ufdd0", "\ufdd1"
_DROP_PLAIN = {"type": "Replace", "pattern": {"String": PLAIN}, "content": ""}
_EXACT = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_CUT_AT_SPLIT = {"type": "Split", "pattern": {"String": SPLIT}, "behavior": "Removed", "invert": False}
NORMAL = 1
_RESERVED = "<|reserved_special_token_"
Spec = dict[str, Any]


def _letters(piece: bytes) -> str:
    return "".join(BYTE_TO_LETTER[byte] for byte in piece)


def spec_of(tokenizer: Path | Mapping[str, Any]) -> Spec:
    """The content of a ``tokenizer.json`` for a tokenizer's file of either kind, without marks.

    Raises:
        CallamaError: the file is damaged.
    """
    if not isinstance(tokenizer, Path):
        return without_marks(tokenizer)
    if tokenizer.suffix != ".json":
        return _spec(tokenizer)
    raw = read_json(tokenizer, "a tokenizer")
    if not isinstance(raw, Mapping):
        raise not_bpe(tokenizer, "it holds no JSON object")
    try:
        return without_marks(raw)
    except Exception as error:  # a stranger's file may have anything anywhere
        raise not_bpe(tokenizer, f"a part of it is damaged ({error})") from None


def _spec(path: Path) -> Spec:
    """Llama 3's ``tokenizer.json`` from its ranks.

    tiktoken joins whatever makes the token of lowest rank; ``tokenizers`` wants the pairs, so each
    token's every pair of tokens is listed, in the order of the ranks of what they make.
    """
    ranks = read_ranks(path)
    merges = [
        f"{_letters(piece[:cut])} {_letters(piece[cut:])}"
        for piece in sorted(ranks, key=lambda p: ranks[p])
        for cut in range(1, len(piece))
        if piece[:cut] in ranks and piece[cut:] in ranks
    ]
    specials = llama3_specials()
    tokens = [_letters(piece) for piece in sorted(ranks, key=lambda p: ranks[p])]
    types = [NORMAL] * len(tokens) + [CONTROL] * len(specials)
    spec = tokenizer_json([*tokens, *specials], types, merges, "llama-bpe")
    for name in specials:
        del spec["model"]["vocab"][name]
    return spec


def is_llama3(spec: Mapping[str, Any]) -> bool:
    """Whether a ``tokenizer.json`` is made on Llama 3's: its number of ordinary tokens, its special ids."""
    added = {token["content"]: token["id"] for token in spec.get("added_tokens") or ()}
    ordinary = [token for token in spec["model"]["vocab"] if token not in added]
    begin, end = ("<|begin_of_text|>", "<|eot_id|>")
    ours = llama3_specials()
    return len(ordinary) == LLAMA3_RANKS and all(added.get(name) == ours[name] for name in (begin, end))


def meta_lines(spec: Mapping[str, Any], place: Path) -> bytes:
    """The content of ``tokenizer.model`` for Llama 3's ``tokenizer.json``.

    Raises:
        CallamaError: it has a special token of its own, which ``tokenizer.model`` cannot say.
    """
    known = {number: name for name, number in llama3_specials().items()}
    for token in spec.get("added_tokens") or ():
        name, number = token["content"], token["id"]
        # Llama 3.0 had reserved tokens where later ones have names, and so numbered them differently.
        if number not in known or (name != known[number] and not name.startswith(_RESERVED)):
            raise CallamaError(
                f"the tokenizer of {place} has the token {name!r} with id {number}, which Meta's tokenizer.model "
                f"cannot hold ({known.get(number, 'no token')!r} there); convert --to native or hf instead"
            )
    letters = {letter: byte for byte, letter in BYTE_TO_LETTER.items()}
    by_id = {i: token for token, i in spec["model"]["vocab"].items()}
    pieces = [bytes(letters[c] for c in by_id[i]) for i in range(LLAMA3_RANKS)]
    return b"".join(base64.b64encode(piece) + b" %d\n" % rank for rank, piece in enumerate(pieces))


def pre_tokenizer_name(spec: Mapping[str, Any], place: Path) -> str:
    """llama.cpp's name for how a ``tokenizer.json`` cuts text into words.

    Raises:
        CallamaError: it has none that callama knows.
    """
    given = spec.get("pre_tokenizer") or {}
    steps = given.get("pretokenizers", [given])
    for name in ("llama-bpe", "smollm", "gpt-2"):
        if [_essence(step) for step in steps] == [_essence(step) for step in pre_tokenizer(name)]:
            return name
    raise CallamaError(
        f"the tokenizer in {place} cuts text in a way that llama.cpp has no name for: {json.dumps(given)}"
    )


def _essence(step: Mapping[str, Any]) -> tuple[Any, ...]:
    keys = ("pattern", "behavior", "invert", "individual_digits", "add_prefix_space", "use_regex")
    return (step.get("type"), *(json.dumps(step.get(key)) for key in keys))


def with_marks(spec: Mapping[str, Any]) -> Spec:
    """The tokenizer that understands ``SPLIT`` and ``PLAIN``, and finds special tokens as callama does: exactly where
    their names stand, with nothing of what surrounds them, whatever the file's flags; without chance in its merges.

    Raises:
        CallamaError: it spells bytes as letters before it cuts text into words, so that no mark would be seen.
    """
    normalizer, steps = spec.get("normalizer"), spec.get("pre_tokenizer")
    if not steps or "ByteLevel" in json.dumps(normalizer):
        raise CallamaError(
            "the tokenizer spells bytes in its normalizer instead of its pre_tokenizer, so a chat template cannot mark "
            "in its text where to cut; move ByteLevel into the pre_tokenizer of tokenizer.json"
        )
    inner = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    both = {"type": "Sequence", "normalizers": [_DROP_PLAIN, normalizer]} if normalizer else _DROP_PLAIN
    return {
        **spec, "normalizer": both, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [_CUT_AT_SPLIT, *inner]},
        "added_tokens": [{**token, **_EXACT} for token in spec.get("added_tokens") or ()],
        "model": {**spec["model"], "dropout": None},
    }  # fmt: skip


def without_marks(spec: Mapping[str, Any]) -> Spec:
    """The inverse of ``with_marks``; any other tokenizer as it is."""
    out, normalizer, steps = dict(spec), spec.get("normalizer"), spec.get("pre_tokenizer") or {}
    if normalizer == _DROP_PLAIN:
        out["normalizer"] = None
    if steps.get("pretokenizers", [])[:1] == [_CUT_AT_SPLIT]:
        inner = steps["pretokenizers"][1:]
        out["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": inner}
    return out
