"""How long a step and a validation will take on the device that is here, from parts of them run on random numbers.

One block there and back, one chunk of the loss and a part of the update take a second or so, and need no more memory
than the run itself. What is measured varies on a busy machine, and so does the run; both ends are given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from callama.model.attend import Documents
from callama.model.lora import add_lora
from callama.model.nf4 import NF4Linear
from callama.model.transformer import Transformer
from callama.train import memory
from callama.train.config import OptimizerSection
from callama.train.engine import adamw
from callama.train.heap import give_back_freed_memory
from callama.train.loss import CHUNK_POSITIONS, projected_cross_entropy
from callama.train.memory import Load, Setting

_RUNS = 4  # of each part; few, because a block of a large model takes seconds on a CPU


def _seconds(run: Callable[[], object], device: torch.device) -> Tensor:
    """The shortest and the longest of some runs after one that warms up."""
    taken = []
    for _ in range(1 + _RUNS):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return torch.tensor([min(taken[1:]), max(taken[1:])], dtype=torch.float64)


def _back(total: Tensor) -> None:
    total.backward()  # type: ignore[no-untyped-call]


def _pack(model: Transformer, dtype: torch.dtype) -> None:
    for part in (model.layers[0].attention, model.layers[0].feed_forward):
        for name, linear in list(part.named_children()):  # type: ignore[union-attr]
            setattr(part, name, NF4Linear(linear.weight.detach(), dtype))


class Pace(NamedTuple):
    """Seconds, at least and at most: of a step, and of reading one token without learning from it."""

    step: tuple[float, float]
    read: tuple[float, float]


def measured_pace(setting: Setting, load: Load, batches: float, device: torch.device) -> Pace:
    """Of a step of so many micro-batches: one block there and back, one chunk of the loss and a part of the update,
    each taken as often as the run does. Of a validation: the same block and chunk, only there."""
    if setting.recompute and setting.on_cpu:
        give_back_freed_memory()  # as the run will
    params = replace(setting.params, n_layers=1, vocab_size=8)
    with device:
        model = Transformer(params, tied=True, dropout=setting.dropout).to(setting.dtype)
        if setting.packed:
            _pack(model, setting.dtype)
        if setting.lora is not None:
            add_lora(model, setting.lora)
        model.recompute = setting.recompute
        model.tok_embeddings.weight.requires_grad_()  # as in a block with others below it
        ids, attend = torch.zeros(1, load.tokens, dtype=torch.int64), Documents(load.documents, device)
        block = _seconds(lambda: _back(model(ids, attend).sum()), device)
        positions = min(CHUNK_POSITIONS, max(load.supervised, 1))
        hidden = torch.zeros(positions, params.dim, dtype=setting.dtype, requires_grad=True)
        trained = setting.lora is None
        table = torch.zeros(setting.params.vocab_size, params.dim, dtype=setting.dtype, requires_grad=trained)
        targets = torch.zeros(positions, dtype=torch.int64)
        chunk = _seconds(lambda: _back(projected_cross_entropy(hidden, table, targets)[0]), device)
        with torch.no_grad():
            block_read = _seconds(lambda: model(ids, attend), device)
            chunk_read = _seconds(lambda: projected_cross_entropy(hidden, table, targets), device)
        updated = nn.Parameter(torch.zeros(1 << 20))
        updated.grad = torch.zeros(1 << 20)
        update = _seconds(adamw([updated], OptimizerSection()).step, device)
    blocks, chunks = setting.params.n_layers, load.supervised / positions
    step = batches * (blocks * block + chunks * chunk) + update * memory.trained_numbers(setting) / updated.numel()
    read = (blocks * block_read + chunks * chunk_read) / load.tokens
    return Pace(_range(step), _range(read))


def _range(seconds: Tensor) -> tuple[float, float]:
    low, high = seconds.tolist()
    return low, high
