"""How many steps there are, and the learning rate of each: warm-up, then cosine decay."""

from __future__ import annotations

import math

from callama.data.pack import EpochPlans
from callama.train.config import SchedulerSection, TrainConfig


def planned_steps(config: TrainConfig, epochs: EpochPlans, ranks: int) -> int:
    """Steps of all epochs; what is left of an epoch at its end makes a shorter step."""
    per_step = config.train.gradient_accumulation_steps * ranks
    return sum(math.ceil(len(epochs[e]) / per_step) for e in range(config.train.num_epochs))


def learning_rate(step: int, total_steps: int, scheduler: SchedulerSection) -> float:
    """The rate of step 0, 1, …: linear from ``min_lr`` to ``max_lr``, then a half cosine back to
    ``min_lr`` at ``total_steps``, and ``min_lr`` after it (arXiv:1608.03983, without restarts)."""
    low, high = scheduler.min_lr, scheduler.max_lr
    warmup = min(scheduler.warmup_num_steps, total_steps)
    if step < warmup:
        return low + (high - low) * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))
