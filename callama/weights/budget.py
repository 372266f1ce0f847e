"""What merging costs: the logits of adapter-on-base against those of the merged weights.

The model runs once for all variants side by side, fp32 arithmetic throughout, so that every
difference comes from rounding weights. Linear layers read their rows from disk block by block, so a
model of any size is measured in the memory of one block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callama.common.progress import Meter
from callama.contract.messages import Conversation
from callama.model.attend import Documents
from callama.model.transformer import Transformer
from callama.text.render import Renderer
from callama.weights.adapter import Adapter
from callama.weights.lazy import Lazy
from callama.weights.names import EMBEDDING, OUTPUT
from callama.weights.source import Source
from callama.weights.tokenizers import loaded_tokenizer

RANDOM_TOKENS, SEED = 128, 0
_TOOL = {
    "name": "book_table",
    "description": "Books a table in a restaurant",
    "parameters": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "people": {"type": "integer"}, "time": {"type": "string"}},
        "required": ["name", "people"],
    },
}
_BOOKING = {"name": "Osteria Blu", "people": 4, "time": "19:30"}
PROBES: tuple[dict[str, Any], ...] = (
    {
        "tools": [_TOOL],
        "messages": [
            {"role": "user", "content": "Four of us at Osteria Blu tonight at half past seven, please."},
            {"role": "assistant", "tool_calls": [{"function": {"name": "book_table", "arguments": _BOOKING}}]},
            {"role": "tool", "content": '{"status": "confirmed", "number": "A-117"}'},
            {"role": "assistant", "content": "Your table is booked. The confirmation number is A-117."},
        ],
    },
    {
        "messages": [
            {"role": "user", "content": "Why is the sky blue?"},
            {"role": "assistant", "content": "Air scatters blue light more than red light, so it reaches us from "
             "every direction."},
        ]
    },
)  # fmt: skip


class MergeError(NamedTuple):
    """Differences of logits, and the share of positions whose likeliest token is another one."""

    max_logit: float
    mean_logit: float
    changed_tokens: float
    positions: int


class _Streamed(nn.Module):
    """A linear layer for x (variants, s, in): variant 0 is the base with its adapter, the others have
    weights of their own. Rows come from disk for each call."""

    def __init__(self, base: Lazy, layer: str, adapter: Adapter, others: list[Lazy]) -> None:
        super().__init__()
        self.base, self.others, self.scaling = base, others, adapter.lora.scaling
        self.factors, self.magnitude = adapter.factors.get(layer), adapter.magnitudes.get(layer)

    def forward(self, x_vsd: Tensor) -> Tensor:
        """(variants, s, in) → (variants, s, out)."""
        out = torch.empty(*x_vsd.shape[:2], self.base.shape[0])
        low = None if self.factors is None else self.scaling * F.linear(x_vsd[0], self.factors[0])
        row = 0
        for blocks in zip(self.base.blocks(), *(other.blocks() for other in self.others), strict=True):
            rows = slice(row, row := row + len(blocks[0]))
            for variant, block in enumerate(blocks):
                out[variant, :, rows] = F.linear(x_vsd[variant], block.float())
            if self.factors is not None and low is not None:
                a, b = self.factors[0], self.factors[1][rows]
                out[0, :, rows] += F.linear(low, b)
                if self.magnitude is not None:
                    adapted = blocks[0].float().addmm(b, a, alpha=self.scaling)
                    out[0, :, rows] *= self.magnitude[rows] / torch.linalg.vector_norm(adapted, dim=1)
        return out


def _streamed_model(
    base: Source, adapter: Adapter, variants: list[Mapping[str, Lazy]], ids: Tensor, meter: Meter
) -> tuple[Transformer, Tensor]:
    """The model with streamed layers, and the ids that stand for ``ids`` in its small embedding.

    Only the probe's rows of the embedding are taken, the same in all variants but for their rounding.
    """
    with torch.device("meta"):
        model = Transformer(base.params, tied=True)
    names, where = torch.unique(ids, return_inverse=True)
    embeddings = [variant[EMBEDDING] for variant in (base.tensors, *variants)]
    rows = [torch.cat([e.read(i, i + 1) for i in names.tolist()]).float() for e in embeddings]
    table = torch.cat(rows)
    model.tok_embeddings = nn.Embedding(table.shape[0], table.shape[1], _weight=table)
    for name, tensor in base.tensors.items():
        if len(tensor.shape) == 1:
            parent, _ = _parent(model, name)
            parent.weight = nn.Parameter(tensor.whole().float(), requires_grad=False)
        elif name not in (EMBEDDING, OUTPUT):
            parent, last = _parent(model, name.removesuffix(".weight"))
            others = [variant[name] for variant in variants]
            setattr(parent, last, _Streamed(tensor, name.removesuffix(".weight"), adapter, others))
    for layer in model.layers:
        layer.register_forward_hook(lambda *_: meter.advance())
    shifted = torch.stack([where + i * len(names) for i in range(len(embeddings))])
    return model, shifted


def _parent(model: nn.Module, name: str) -> tuple[Any, str]:
    path, _, last = name.rpartition(".")
    return model.get_submodule(path), last


def probe_ids(base: Source) -> list[list[int]]:
    """Token ids of the probe conversations, or random ones for a model without a tokenizer."""
    tokenizer = loaded_tokenizer(base)
    if tokenizer is None:
        generator = torch.Generator().manual_seed(SEED)
        return [torch.randint(base.params.vocab_size, (RANDOM_TOKENS,), generator=generator).tolist()]
    renderer = Renderer(tokenizer)
    return [renderer.conversation(Conversation.from_dict(probe)).ids for probe in PROBES]


@torch.no_grad()
def measure(base: Source, adapter: Adapter, merged: Mapping[str, Mapping[str, Lazy]]) -> dict[str, MergeError]:
    """The error of each merged state dict, by its name, against the adapter on its base.

    A norm is taken from the base for all: adapters leave it alone, and its rounding is the dtype's.
    """
    documents = probe_ids(base)
    ids = torch.tensor([token for document in documents for token in document])
    variants = list(merged.values())
    with Meter("measuring the merge's error", base.params.n_layers, "layers") as meter:
        model, table_ids = _streamed_model(base, adapter, variants, ids, meter)
        hidden = model(table_ids, Documents([[len(document)] for document in documents]))
    name = EMBEDDING if base.tied else OUTPUT
    compared = _compare(hidden, [base.tensors[name], *(variant[name] for variant in variants)])
    return dict(zip(merged, compared, strict=True))


def _compare(hidden_vsd: Tensor, weights: list[Lazy]) -> list[MergeError]:
    """Differences of the logits from variant 0's, block by block of the vocabulary."""
    count, positions = len(weights), hidden_vsd.shape[1]
    best = torch.full((count, positions), -torch.inf)
    chosen = torch.zeros(count, positions, dtype=torch.long)
    largest, total = torch.zeros(count), torch.zeros(count, dtype=torch.float64)
    row = 0
    for blocks in zip(*(weight.blocks() for weight in weights), strict=True):
        reference = F.linear(hidden_vsd[0], blocks[0].float())
        for variant, block in enumerate(blocks):
            logits = F.linear(hidden_vsd[variant], block.float()) if variant else reference
            # What is not a number must count as infinitely wrong, not as equal.
            difference = (logits - reference).abs().nan_to_num(nan=torch.inf)
            largest[variant] = torch.maximum(largest[variant], difference.max())
            total[variant] += difference.double().sum()
            value, index = logits.nan_to_num(nan=-torch.inf).max(dim=1)
            better = value > best[variant]
            chosen[variant] = torch.where(better, index + row, chosen[variant])
            best[variant] = torch.where(better, value, best[variant])
        row += len(blocks[0])
    changed = (chosen != chosen[0]) | ~best.isfinite()
    numbers = positions * row
    return [
        MergeError(float(largest[v]), float(total[v]) / numbers, float(changed[v].float().mean()), positions)
        for v in range(1, count)
    ]
