"""Which checkpoint is the best so far, and when to stop waiting for a better one."""

from __future__ import annotations

from callama.train.checkpoint import Progress
from callama.train.config import TrainConfig
from callama.train.questions import Answers
from callama.train.watch import Sums


def note_score(config: TrainConfig, progress: Progress, sums: Sums, answers: Answers | None) -> bool:
    """Notes what a validation found, by ``validation.best_by``; whether nothing was better so far. Of equally
    many right answers the ones with the lower loss are better."""
    by, score = config.validation.best_by, [-sums.loss]
    if by == "calls":
        assert answers is not None
        score = [answers.right_turn, *score]
    if progress.best_by != by:
        progress.best_by, progress.best_score, progress.waited = by, [], 0
    if score <= progress.best_score:
        progress.waited += 1
        return False
    progress.best_score, progress.best_step, progress.waited = score, progress.step, 0
    return True


def give_up(config: TrainConfig, progress: Progress) -> bool:
    """Whether ``validation.patience`` is at its end."""
    return config.validation.patience is not None and progress.waited >= config.validation.patience
