"""How many steps a run has: those of its epochs, or as many of them as fit into ``train.max_minutes``."""

from __future__ import annotations

import torch

from callama.train.checkpoint import Progress
from callama.train.config import TrainConfig
from callama.train.engine import Engine
from callama.train.watch import Watch

MEASURE_STEPS = 5  # the first steps are slower (warm-up of caches); plans are made from here on


def schedule_steps(config: TrainConfig, progress: Progress) -> int:
    """Over how many steps the learning rate falls: as many as the settings say, which may be more than the run has,
    or fewer. Where the run is cut short, more of them become fewer as its own do, so that it ends at the rate that it
    would have had, and plans that go up and down by a step hardly move it; fewer end with it at the latest."""
    planned, total = progress.planned_steps, progress.total_steps
    steps = config.scheduler.total_num_steps or planned
    return steps * total // planned if steps > planned else min(steps, total)


def fit_into_time(config: TrainConfig, progress: Progress, watch: Watch, engine: Engine) -> None:
    """Plans as many steps as fit into ``train.max_minutes`` at the pace that the first process measured so far."""
    if progress.step == MEASURE_STEPS:
        progress.warm_up_seconds = progress.seconds
    if config.train.max_minutes is None:
        return
    left = config.train.max_minutes * 60 - progress.elapsed_seconds
    fitting = progress.total_steps
    if left <= 0:
        fitting = progress.step
    elif progress.step >= 2 * MEASURE_STEPS:
        pace = (progress.seconds - progress.warm_up_seconds) / (progress.step - MEASURE_STEPS)
        fitting = min(progress.planned_steps, progress.step + int(left / pace))
    progress.total_steps = int(engine.total(torch.tensor(0 if engine.rank else fitting)))
    if progress.total_steps < progress.planned_steps and progress.step == 2 * MEASURE_STEPS:
        fitting_steps = f"{progress.total_steps} of {progress.planned_steps} steps"
        watch.say(f"about {fitting_steps} fit into {config.train.max_minutes:g} minutes")
