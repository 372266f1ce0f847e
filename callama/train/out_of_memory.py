"""Memory that does not suffice: how to tell, and what to say to the user."""

from __future__ import annotations

import torch

from callama.train.config import TrainConfig


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch has no error of its own for main memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def what_takes_less(config: TrainConfig) -> str:
    """The settings that lower a run's memory, the one that changes the result least first."""
    size, accumulation = config.train.micro_batch_size, config.train.gradient_accumulation_steps
    advice = []
    if size > 1:
        advice.append(
            f"set train.micro_batch_size=1 with train.gradient_accumulation_steps={size * accumulation} "
            "(about the same steps in less memory)"
        )
    if config.dtype == "fp32":
        advice.append("dtype=bf16")
    if config.zero is not None and config.zero.stage < 3:
        advice.append("ZeRO stage 3")
    if config.zero is not None and config.zero.offload_optimizer is None:
        advice.append("zero_optimization.offload_optimizer.device=cpu")
    advice.append(f"a model_config.max_seq_len below {config.model.max_seq_len}, and build with --max-tokens to match")
    more = f"; or, if that is not enough, {', '.join(advice[1:])}" if advice[1:] else ""
    return config.spelled(advice[0] + more)
