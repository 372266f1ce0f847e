"""Tokens as runs of readable text of one kind: what a screen or a page colours."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from numpy.typing import NDArray

from callama.common.terminal import visible
from callama.contract.spans import Kind
from callama.text.tokenizer import Tokenizer


class Run(NamedTuple):
    """A run of text; ``trained`` says whether its tokens are supervised."""

    text: str
    kind: Kind
    trained: bool


def runs_of(
    ids: Sequence[int] | NDArray[Any],
    kinds: Sequence[int] | NDArray[Any],
    trained: Sequence[bool] | NDArray[Any],
    tokenizer: Tokenizer,
) -> list[Run]:
    """Runs of equal kind and supervision; a character whose bytes span two runs belongs to the later one."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    out = []
    tokens = zip(map(int, ids), map(int, kinds), map(bool, trained), strict=True)
    for (kind, supervised), group in groupby(tokens, key=lambda token: token[1:]):
        text = decoder.decode(b"".join(tokenizer.pieces[token] for token, _, _ in group))
        out.append(Run(visible(text), Kind(kind), supervised))
    return out
