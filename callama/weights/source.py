"""A model on disk before conversion: its shape, its tensors by Meta's names (unread), its tokenizer.

Every format's reader makes one of these and every writer takes one, so that N formats need 2 N
functions. What params.json cannot say travels in ``params``; where the numbers came from in ``facts``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callama.common.errors import CallamaError
from callama.common.files import name_of
from callama.contract import tool_uses
from callama.model.params import ModelParams
from callama.model.transformer import Transformer
from callama.text.tokenizer import TOKENIZER_FILES
from callama.weights.lazy import Lazy, cast, in_range
from callama.weights.names import OUTPUT

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CARRIED = ("dialect", "base", "adapter", "merge_error")


@dataclass(frozen=True)
class Source:
    """``kind`` in words for messages; ``tokenizer`` is a file, or the content of a tokenizer.json."""

    kind: str
    path: Path
    params: ModelParams
    tensors: dict[str, Lazy]
    tokenizer: Path | Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tied(self) -> bool:
        """Whether the embedding is also the output projection."""
        return OUTPUT not in self.tensors

    @property
    def nbytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def as_dtype(self, name: str | None) -> Source:
        """The same with every tensor rounded to one of ``DTYPES``, as far as it can hold the numbers; None keeps
        what is there."""
        if name is None:
            return self
        target = DTYPES[name]
        rounded = {n: t if t.dtype == target else in_range(cast(t, target), n) for n, t in self.tensors.items()}
        return replace(self, tensors=rounded)

    def origin(self) -> dict[str, Any]:
        """What an artefact made from this says about it in its manifest."""
        carried = {key: self.facts[key] for key in CARRIED if key in self.facts}
        return {
            "source": name_of(self.path), "source_kind": self.kind, "dtype": dtype_word(self.tensors),
            "dialect": tool_uses.NAME, **carried,
        }  # fmt: skip


def dtype_word(tensors: Mapping[str, Lazy]) -> str:
    """The word for the dtype of most numbers: ``bf16``."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.nbytes
    dtype = sizes.most_common(1)[0][0]
    return next((word for word, known in DTYPES.items() if known == dtype), str(dtype).removeprefix("torch."))


def find_tokenizer(folder: Path) -> Path | None:
    """The tokenizer's file in a folder, if there is one."""
    return next((folder / name for name in TOKENIZER_FILES if (folder / name).is_file()), None)


def expected_shapes(params: ModelParams, *, tied: bool) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a checkpoint of this shape, in Meta's order."""
    with torch.device("meta"):
        model = Transformer(params, tied=tied)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def check_state(path: Path, state: Mapping[str, Lazy | Tensor], params: ModelParams, asked_by: str) -> None:
    """Makes sure that tensors from ``path`` have the names and shapes that ``params`` ask for.

    Raises:
        CallamaError: naming the first tensor at fault; ``asked_by`` says where the shape comes from.
    """
    expected = expected_shapes(params, tied=OUTPUT not in state)
    for name in sorted(set(expected) ^ set(state)):
        what = "lacks" if name in expected else "has an unexpected"
        raise CallamaError(f"{path} {what} tensor {name} by the shape in {asked_by}")
    for name, shape in expected.items():
        if (found := tuple(state[name].shape)) != shape:
            raise CallamaError(f"{path}: {name} has shape {found}, but {asked_by} asks for {shape}")


def check_tokenizer(source: Source, vocab_size: int) -> None:
    """Makes sure that a tokenizer belongs to a model.

    Raises:
        CallamaError: it has another number of tokens than the embedding has rows.
    """
    if vocab_size != source.params.vocab_size:
        cut = f"model.resize_token_embeddings({vocab_size}) of transformers"
        way = (
            f"; or its embedding was padded: cut it first, with {cut}" if vocab_size < source.params.vocab_size else ""
        )
        raise CallamaError(
            f"the tokenizer in {source.path} has {vocab_size:,} tokens, the model {source.params.vocab_size:,}: "
            f"this tokenizer belongs to another model{way}"
        )


def warn(text: str) -> None:
    """Tells a user what was decided for them."""
    print(f"note: {text}", file=sys.stderr, flush=True)
