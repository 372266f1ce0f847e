"""What the loop runs on. The loop asks an engine for exactly these things, one or many processes alike;
plain PyTorch on one device is the first, DeepSpeed (``callama.train.zero``) the second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from callama.data.pack import MicroBatch
from callama.model.lora import LoRAParams
from callama.model.transformer import Transformer
from callama.train.config import OptimizerSection
from callama.train.loss import SupervisedLoss, supervised_loss
from callama.weights.adapter import Adapter, adapter_of, load_adapter, read_adapter


class Engine(Protocol):
    """``rank`` of ``ranks`` processes trains ``parameters``. Every process makes the same calls in the
    same order."""

    rank: int
    ranks: int
    parted: bool  # each process holds a part of the model, so that a forward pass takes all of them
    parameters: list[nn.Parameter]

    def loss(self, batch: MicroBatch) -> SupervisedLoss:
        """Runs this process's micro-batch."""
        ...

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds the loss's gradients to those of the step, of which this micro-batch may be the last."""
        ...

    def step(self, learning_rate: float, divisor: float) -> float:
        """One update with the gradients, summed over processes, divided by ``divisor``; returns their
        norm before clipping."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """The sum of all processes' values."""
        ...

    def adapter(self, lora: LoRAParams) -> Adapter:
        """The adapter as it is now."""
        ...

    def state(self, folder: Path) -> dict[str, Any]:
        """What going on needs beside the adapter; an engine with much of it writes files into ``folder``."""
        ...

    def load_state(self, folder: Path, state: dict[str, Any]) -> None:
        """Restores adapter and optimizer from a checkpoint's folder and what ``state`` gave."""
        ...


class PlainEngine:
    """One device, AdamW on the trainable parameters."""

    rank, ranks, parted = 0, 1, False

    def __init__(self, model: Transformer, optimizer: OptimizerSection, gradient_clipping: float) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._model, self._clipping = model, gradient_clipping
        self._optimizer = adamw(self.parameters, optimizer)

    def loss(self, batch: MicroBatch) -> SupervisedLoss:
        """Runs a micro-batch."""
        return supervised_loss(self._model, batch)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds the loss's gradients to those of the step."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float, divisor: float) -> float:
        """One update with the summed gradients divided by ``divisor``; returns their norm before clipping."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        torch._foreach_div_(gradients, divisor)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._clipping:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self._clipping, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def total(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values

    def adapter(self, lora: LoRAParams) -> Adapter:
        """The adapter as it is now; tensors are shared, not copied."""
        return adapter_of(self._model, lora)

    def state(self, folder: Path) -> dict[str, Any]:
        """The optimizer's state."""
        return self._optimizer.state_dict()

    def load_state(self, folder: Path, state: dict[str, Any]) -> None:
        """Restores the adapter in ``folder`` and what ``state`` gave."""
        load_adapter(self._model, read_adapter(folder, self._model.params))
        self._optimizer.load_state_dict(state)


def adamw(parameters: list[nn.Parameter], section: OptimizerSection) -> torch.optim.AdamW:
    """The optimizer of every engine."""
    return torch.optim.AdamW(
        parameters, betas=section.betas, eps=section.eps, weight_decay=section.weight_decay, fused=section.fused
    )


def shares(batches: list[list[int]], engine: Engine) -> Iterator[tuple[list[int], bool]]:
    """This process's share of micro-batches, and whether each counts: all processes must run as many, so
    one with nothing left runs the first again for nothing."""
    for start in range(0, len(batches), engine.ranks):
        mine = start + engine.rank
        yield (batches[mine], True) if mine < len(batches) else (batches[0], False)
