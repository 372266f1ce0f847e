"""The contract as a Jinja template, for engines that render themselves.

``chat_template.jinja`` is a second writing of ``contract.signatures``, ``contract.turns`` and
``text.render``; the tests hold it to the first, token for token, on every conversation they know.
This module puts the tokenizer's frame and marks in front of it.
"""

from __future__ import annotations

import json
from importlib.resources import files

from callama.common.errors import CallamaError
from callama.text.hf_tokenizer import PLAIN, SPLIT
from callama.text.markup import ROLE, Part, markup_of
from callama.text.tokenizer import Tokenizer


def chat_template(tokenizer: Tokenizer, *, marks: bool = True) -> str:
    """The template for a tokenizer's family.

    ``marks`` are for a tokenizer that ``text.hf_tokenizer.with_marks`` has prepared. Without them a
    turn that begins with white space may be cut into other tokens, and special tokens' names in what
    was said become special tokens.
    """
    markup = markup_of(tokenizer)
    opens, _, closes = "".join(part.text for part in markup.header).partition(ROLE)
    risky = next((p for p in ("<|", "<") if all(n.startswith(p) for n in tokenizer.special_tokens)), None)
    if marks and risky is None:
        odd = next(name for name in tokenizer.special_tokens if not name.startswith("<"))
        raise CallamaError(
            f"{tokenizer.file} has special tokens that do not begin with '<' ({odd}), so no template can guard them; "
            f"rename them (<{odd}>) in its added_tokens and vocab"
        )
    risky = risky or "<"
    values = {
        "begin": _text(markup.begin), "opens": opens, "closes": closes, "ends": markup.end + _text(markup.after),
        "cut": SPLIT if marks else "", "risky": risky,
        "harmless": risky[:1] + PLAIN + risky[1:] if marks else risky, "breaks": ["\x85", "\u2028", "\u2029"],
    }  # fmt: skip
    # llama.cpp's Jinja knows no \\u in a string; the marks, which nobody can see, are better spelled out.
    words = {name: json.dumps(value, ensure_ascii=marks) for name, value in values.items()}
    frame = "".join(f"{{%- set {name} = {word} -%}}\n" for name, word in words.items())
    return frame + files("callama.text").joinpath("chat_template.jinja").read_text(encoding="utf-8")


def _text(parts: tuple[Part, ...]) -> str:
    return "".join(part.text for part in parts)
