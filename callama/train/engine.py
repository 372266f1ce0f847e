"""What the loop runs on. The loop asks an engine for exactly these things; plain PyTorch on one
device is the first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from callama.train.config import OptimizerSection


class PlainEngine:
    """One device, AdamW on the trainable parameters."""

    def __init__(self, model: nn.Module, optimizer: OptimizerSection, gradient_clipping: float) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.gradient_clipping = gradient_clipping
        self._optimizer = torch.optim.AdamW(
            self.parameters,
            betas=optimizer.betas,
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            fused=optimizer.fused,
        )

    def backward(self, loss: Tensor) -> None:
        """Adds the loss's gradients to those of the step."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float, divisor: float) -> float:
        """One update with the summed gradients divided by ``divisor``; returns their norm before clipping."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        torch._foreach_div_(gradients, divisor)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.gradient_clipping:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.gradient_clipping, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def state(self) -> dict[str, Any]:
        """The optimizer's state."""
        return self._optimizer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what ``state`` gave."""
        self._optimizer.load_state_dict(state)
