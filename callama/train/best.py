"""Which checkpoint is the best so far, and when to stop waiting for a better one."""

from __future__ import annotations

from typing import Any

from callama.common.files import sha256_file
from callama.train.checkpoint import Progress
from callama.train.config import TrainConfig
from callama.train.questions import Answers
from callama.train.setup import Run
from callama.train.watch import Sums


def begin_scores(config: TrainConfig, run: Run, progress: Progress) -> str:
    """Notes what scores will depend on, and where that is not what earlier ones did, forgets those: they cannot be
    compared. A sentence about it then, else nothing."""
    if run.validation_data is None:
        return ""
    found, by = config.validation, config.validation.best_by
    measured: dict[str, Any] = {
        "the validation data": sha256_file(run.validation_data.path),
        "validation.steps": found.steps,
        "validation.batch_size": found.batch_size,
        "model_config.max_seq_len": config.model.max_seq_len,
        "validation.questions": found.questions if by == "calls" else 0,  # else they count for nothing
    }
    # Checkpoints of earlier versions do not say it.
    changed = [key for key, value in measured.items() if progress.measured and progress.measured.get(key) != value]
    if progress.best_by not in ("", by):
        changed = ["validation.best_by"]
    progress.best_by, progress.measured = by, measured
    if not changed:
        return ""
    progress.best_score, progress.waited = [], 0
    named = config.spelled(" and ".join(changed))
    return f"scores start anew, since earlier ones cannot be compared: changed since the checkpoint: {named}"


def note_score(config: TrainConfig, progress: Progress, sums: Sums, answers: Answers | None) -> bool:
    """Notes what a validation found, by ``validation.best_by``; whether nothing was better so far. Of equally
    many right answers the ones with the lower loss are better."""
    by, score = config.validation.best_by, [-sums.loss]
    if by == "calls":
        assert answers is not None
        score = [answers.right_turn, *score]
    if score <= progress.best_score:
        progress.waited += 1
        return False
    progress.best_score, progress.best_step, progress.waited = score, progress.step, 0
    return True


def give_up(config: TrainConfig, progress: Progress) -> bool:
    """Whether ``validation.patience`` is at its end."""
    return config.validation.patience is not None and progress.waited >= config.validation.patience
