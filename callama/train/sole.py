"""One run at a time in a job's folder: two would replace each other's checkpoints without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from callama.common.errors import UsageError
from callama.common.lock import sole_writer
from callama.train import zero
from callama.train.config import TrainConfig


@contextmanager
def sole_run(config: TrainConfig) -> Iterator[None]:
    """Holds the job's folder from before it is looked at to the end of the run, where checkpoints are written.

    Raises:
        UsageError: another run does, at all processes of this one.
    """
    if not config.checkpoint.enabled:
        yield
        return
    advice = f"wait until it has ended, or train under {config.another_job}"
    with ExitStack() as lock:
        if config.zero is None:
            lock.enter_context(sole_writer(config.checkpoint.folder, advice))
        else:
            zero.join(config)  # first, so that no process is left waiting for one that was refused
            refused = ""
            if zero.is_first():
                try:
                    lock.enter_context(sole_writer(config.checkpoint.folder, advice))
                except UsageError as error:
                    refused = str(error)
            if refused := zero.told_by_first(refused):
                raise UsageError(refused)
        yield
