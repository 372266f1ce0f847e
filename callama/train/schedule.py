"""The learning rate as a function of the step: warm-up, then cosine decay."""

from __future__ import annotations

import math

from callama.train.config import SchedulerSection


def learning_rate(step: int, total_steps: int, scheduler: SchedulerSection) -> float:
    """The rate of step 0, 1, …: linear from ``min_lr`` to ``max_lr``, then a half cosine back to
    ``min_lr`` at ``total_steps``, and ``min_lr`` after it (arXiv:1608.03983, without restarts)."""
    low, high = scheduler.min_lr, scheduler.max_lr
    warmup = min(scheduler.warmup_num_steps, total_steps)
    if step < warmup:
        return low + (high - low) * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))
