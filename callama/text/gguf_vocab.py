"""The tokenizer inside a GGUF file, as a Hugging Face ``tokenizer.json``.

GGUF stores vocabulary, merges and a name for the pre-tokenizer (ggml-org/llama.cpp,
``docs/gguf.md`` and ``src/llama-vocab.cpp``); the ``tokenizers`` library can run all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from callama.common.errors import CallamaError
from callama.text.tokenizer import LLAMA3_PATTERN

CONTROL, USER_DEFINED = 3, 4
LLAMA3_STEPS = "llama-bpe"
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def pre_tokenizer(name: str) -> list[dict[str, Any]]:
    """The steps that llama.cpp knows by this name.

    Raises:
        CallamaError: the name is not known.
    """
    gpt2 = {**_BYTE_LEVEL, "use_regex": True}
    by_name = {
        "gpt-2": [gpt2],
        "smollm": [{"type": "Digits", "individual_digits": True}, gpt2],
        LLAMA3_STEPS: [_split(LLAMA3_PATTERN), {**_BYTE_LEVEL, "use_regex": False}],
    }
    if name not in by_name:
        raise CallamaError(f"GGUF pre-tokenizer {name!r} is not known; known are {', '.join(by_name)}")
    return by_name[name]


def tokenizer_json(
    tokens: Sequence[str], token_types: Sequence[int], merges: Sequence[str], pre: str
) -> dict[str, Any]:
    """The ``tokenizer.json`` of a GGUF file's ``tokenizer.ggml.*`` fields.

    Raises:
        CallamaError: the pre-tokenizer is not known.
    """
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": kind == CONTROL}
        for i, (token, kind) in enumerate(zip(tokens, token_types, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": pre == LLAMA3_STEPS,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": [merge.split(" ") for merge in merges],
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizer(pre)},
        "post_processor": None, "decoder": {**_BYTE_LEVEL, "use_regex": True}, "model": model,
    }  # fmt: skip
