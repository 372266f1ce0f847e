"""What the loop runs on. The loop asks an engine for exactly these things, one or many processes alike;
plain PyTorch on one device is the first, DeepSpeed (``callama.train.zero``) the second."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from callama.common.errors import CallamaError
from callama.data.pack import MicroBatch
from callama.model.lora import LoRAParams, lora_modules
from callama.model.transformer import Transformer
from callama.train.checkpoint import TRAINER, require_undamaged
from callama.train.config import OptimizerSection
from callama.train.loss import SupervisedLoss, supervised_loss
from callama.weights.adapter import WEIGHTS as ADAPTER_WEIGHTS
from callama.weights.adapter import Adapter, adapter_of, load_adapter, read_adapter
from callama.weights.adapter_config import CONFIG as ADAPTER_CONFIG
from callama.weights.native import PARAMS, WEIGHTS, read_native

Trained = Adapter | dict[str, Tensor]  # the adapter, or all weights by Meta's names


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

    def trained(self, lora: LoRAParams) -> Trained:
        """What is trained, as it is now."""
        ...

    def state(self, folder: Path) -> dict[str, Any]:
        """What going on needs beside the adapter; an engine with much of it writes files into ``folder``."""
        ...

    def load_state(self, folder: Path, state: dict[str, Any]) -> None:
        """Restores what is trained and the optimizer from a checkpoint's folder and what ``state`` gave."""
        ...


class PlainEngine:
    """One device, AdamW on the trainable parameters.

    What is trained is fp32: an update is often smaller than bf16 can add to a weight. Where the model
    computes with trained weights in bf16, the optimizer has copies in fp32, on which gradients add up too.
    """

    rank, ranks, parted = 0, 1, False

    def __init__(self, model: Transformer, optimizer: OptimizerSection, gradient_clipping: float) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._model, self._clipping = model, gradient_clipping
        self._updated = [p if p.dtype == torch.float32 else nn.Parameter(p.detach().float()) for p in self.parameters]
        self._rounded = [(p, u) for p, u in zip(self.parameters, self._updated, strict=True) if p is not u]
        for parameter, updated in self._rounded:
            parameter.register_post_accumulate_grad_hook(partial(_hand_over, updated))  # type: ignore[no-untyped-call]
        self._optimizer = adamw(self._updated, optimizer)

    def loss(self, batch: MicroBatch) -> SupervisedLoss:
        """Runs a micro-batch."""
        return supervised_loss(self._model, batch)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds the loss's gradients to those of the step."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float, divisor: float) -> float:
        """One update with the summed gradients divided by ``divisor``; returns their norm before clipping."""
        gradients = [p.grad for p in self._updated if p.grad is not None]
        torch._foreach_div_(gradients, divisor)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._clipping:
            torch.nn.utils.clip_grads_with_norm_(self._updated, self._clipping, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._round()
        return float(norm)

    @torch.no_grad()
    def _round(self) -> None:
        for parameter, updated in self._rounded:
            parameter.copy_(updated)

    def total(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values

    def trained(self, lora: LoRAParams) -> Trained:
        """The adapter or the weights as they are now; tensors are shared, not copied."""
        adapter = adapter_of(self._model, lora)
        return adapter if adapter.factors else {name: p.detach() for name, p in self._model.state_dict().items()}

    def state(self, folder: Path) -> dict[str, Any]:
        """The optimizer's state and its copies of weights."""
        return {**self._optimizer.state_dict(), "copies": [updated.detach() for _, updated in self._rounded]}

    def load_state(self, folder: Path, state: dict[str, Any]) -> None:
        """Restores the adapter or the weights in ``folder`` and what ``state`` gave.

        Raises:
            CallamaError: a file is damaged, or the state is another engine's.
        """
        if "param_groups" not in state or len(state.get("copies", ())) != len(self._rounded):
            raise CallamaError(
                f"{folder / TRAINER} has not the optimizer's state of a run like this one on one device; expected "
                "'param_groups' and as many 'copies' in fp32 as are trained in bf16: resume with the settings and the "
                "launcher of the run that wrote it, or start over with --fresh"
            )
        if next(lora_modules(self._model), None) is not None:
            require_undamaged(folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS)
            load_adapter(self._model, read_adapter(folder, self._model.params))
        else:
            require_undamaged(folder / PARAMS, folder / WEIGHTS)
            self._model.load_state_dict(read_native(folder).state)
        self._optimizer.load_state_dict({key: value for key, value in state.items() if key != "copies"})
        with torch.no_grad():
            for (_, updated), copy in zip(self._rounded, state["copies"], strict=True):
                updated.copy_(copy)


def _hand_over(updated: Tensor, parameter: Tensor) -> None:
    """Adds a gradient to that of the copy in fp32, as soon as it is there."""
    assert parameter.grad is not None
    if updated.grad is None:
        updated.grad = parameter.grad.float()
    else:
        updated.grad += parameter.grad
    parameter.grad = None


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
