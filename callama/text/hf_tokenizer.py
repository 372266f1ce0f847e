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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from callama.common.errors import CallamaError
from callama.common.files import read_json
from callama.text.gguf_vocab import CONTROL, LLAMA3_STEPS, pre_tokenizer, tokenizer_json
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
    specials = llama3_specials()
    tokens = [_letters(piece) for piece in sorted(ranks, key=lambda p: ranks[p])]
    merges = [" ".join(pair) for pair in _pairs(tokens)]
    types = [NORMAL] * len(tokens) + [CONTROL] * len(specials)
    spec = tokenizer_json([*tokens, *specials], types, merges, LLAMA3_STEPS)
    for name in specials:
        del spec["model"]["vocab"][name]
    return spec


def _pairs(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """Every pair of tokens that makes one, in the order of what they make, and then of their lengths."""
    known = set(tokens)
    return [
        (token[:cut], token[cut:])
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]


def is_llama3(spec: Mapping[str, Any]) -> bool:
    """Whether a ``tokenizer.json`` is made on Llama 3's: its number of ordinary tokens, its special ids."""
    added = {token["content"]: token["id"] for token in spec.get("added_tokens") or ()}
    ordinary = [token for token in spec["model"]["vocab"] if token not in added]
    begin, end = ("<|begin_of_text|>", "<|eot_id|>")
    ours = llama3_specials()
    return len(ordinary) == LLAMA3_RANKS and all(added.get(name) == ours[name] for name in (begin, end))


def require_ids(spec: Mapping[str, Any], place: Path, advice: str) -> None:
    """Makes sure that Hugging Face's library gives the added tokens of ``place``'s tokenizer their own ids: it numbers
    them one behind the other, whatever the file says. ``advice`` is what to do where it does not.

    Raises:
        CallamaError: it does not, or cannot read the tokenizer at all.
    """
    try:
        library = tokenizers.Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library raises nothing more special
        raise CallamaError(
            f"Hugging Face's library does not read the tokenizer of {place} ({error}); copy or download it again"
        ) from None
    for token in spec.get("added_tokens") or ():
        if (found := library.token_to_id(token["content"])) != token["id"]:
            raise CallamaError(
                f"the tokenizer of {place} leaves ids out: {token['content']!r} has {token['id']}, and Hugging Face's "
                f"library would give it {found}; {advice}"
            )


def meta_lines(spec: Mapping[str, Any], place: Path) -> bytes:
    """The content of ``tokenizer.model`` for Llama 3's ``tokenizer.json``.

    Raises:
        CallamaError: it has a special token of its own, or cuts text in another way than Llama 3's, which
            ``tokenizer.model`` cannot say.
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
    tokens = [by_id.get(i, "") for i in range(LLAMA3_RANKS)]
    if why := _unlike_llama3(spec, tokens):
        raise CallamaError(
            f"the tokenizer of {place} {why}, so Meta's tokenizer.model, which cannot say that, would give other ids; "
            "convert --to native or hf instead, or first --to native and put Meta's own tokenizer.model beside its "
            "weights, if it is the model's"
        )
    pieces = [bytes(letters[c] for c in token) for token in tokens]
    return b"".join(base64.b64encode(piece) + b" %d\n" % rank for rank, piece in enumerate(pieces))


def _unlike_llama3(spec: Mapping[str, Any], tokens: Sequence[str]) -> str:
    """What makes a tokenizer of Llama 3's size give other ids than Llama 3's ranks do; nothing where they agree."""
    rank = {token: i for i, token in enumerate(tokens)}
    if len(rank) != LLAMA3_RANKS or "" in rank:
        return "leaves out ids of ordinary tokens"
    if spec.get("normalizer") or _step_name(spec) != LLAMA3_STEPS:
        return "changes text, or cuts it into words, in another way than Llama 3's"
    given = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in spec["model"]["merges"]]
    made = [rank.get("".join(pair), -1) for pair in given]
    # Which of several pairs that make one token comes first is the converter's choice; Hugging Face's has its own.
    in_order = made == sorted(made) and sorted(given) == sorted(_pairs(tokens))
    return "" if in_order and spec["model"].get("ignore_merges") else "has other merges than Llama 3's, or other rules"


def _step_name(spec: Mapping[str, Any]) -> str | None:
    given = spec.get("pre_tokenizer") or {}
    steps = [_essence(step) for step in given.get("pretokenizers", [given])]
    known = (LLAMA3_STEPS, "smollm", "gpt-2")
    return next((name for name in known if steps == [_essence(step) for step in pre_tokenizer(name)]), None)


def pre_tokenizer_name(spec: Mapping[str, Any], place: Path) -> str:
    """llama.cpp's name for how a ``tokenizer.json`` cuts text into tokens. The name also says whether words that are
    tokens are looked up before any merge (``ignore_merges``).

    Raises:
        CallamaError: it has none that callama knows.
    """
    if normalizer := spec.get("normalizer"):
        raise CallamaError(
            f"the tokenizer in {place} has a normalizer, which GGUF has no place for: {json.dumps(normalizer)}; "
            "convert --to hf"
        )
    if (name := _step_name(spec)) is None:
        given = json.dumps(spec.get("pre_tokenizer") or {})
        raise CallamaError(f"the tokenizer in {place} cuts text in a way that llama.cpp has no name for: {given}")
    if (found := bool(spec["model"].get("ignore_merges"))) != (name == LLAMA3_STEPS):
        raise CallamaError(
            f"the tokenizer in {place} has ignore_merges {str(found).lower()}, and llama.cpp the opposite for all that "
            f"cut text into words as it does ({name}), so text would get other ids; convert --to hf"
        )
    return name


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
