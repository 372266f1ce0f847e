"""The training loop, whole, on one page: micro-batches, steps, validation, checkpoints, resume.

The loss of a step is the mean over all supervised tokens of its micro-batches, so accumulation changes
nothing but memory, and sharing the micro-batches among processes changes nothing but time. Everything
that the next step depends on is in the checkpoint.
"""

from __future__ import annotations

import math
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from callama.common.errors import CallamaError, UsageError, is_out_of_memory
from callama.common.signals import ENDING
from callama.data.pack import EpochPlans, MicroBatch, Sizes, collate
from callama.train import pace, zero
from callama.train.best import begin_scores, give_up, note_score
from callama.train.checkpoint import Progress, newest, step_folder, step_folders, sweep
from callama.train.config import TrainConfig
from callama.train.engine import Engine, PlainEngine, shares
from callama.train.memory import Load
from callama.train.out_of_memory import (
    VALIDATING,
    noted_as_validating,
    what_takes_less,
    what_validates_in_less,
)
from callama.train.peak import measured_peak, micro_batch_flops
from callama.train.questions import Questions
from callama.train.resume import refuse_changed_settings, restore, save
from callama.train.schedule import learning_rate, planned_steps
from callama.train.setup import Run, prepare
from callama.train.sole import sole_run
from callama.train.stop import StopRequest, interruptible
from callama.train.validate import validate
from callama.train.watch import Sums, Watch, peak_memory_bytes
from callama.weights.adapter import find_adapter


def train(config: TrainConfig, *, resume: bool = False, fresh: bool = False) -> dict[str, Any]:
    """Trains as configured and returns the result: steps, losses, throughput, the checkpoint's folder.

    Raises:
        UsageError, CallamaError: what ``prepare`` finds; a job folder that another run writes into, or with
        checkpoints and neither ``resume`` nor ``fresh``; a loss that is not finite.
    """
    config.require_possible()
    if resume and fresh:
        raise UsageError("--resume goes on and --fresh starts over; give one of them")
    with sole_run(config):
        return _train_alone(config, resume, fresh)


def _train_alone(config: TrainConfig, resume: bool, fresh: bool) -> dict[str, Any]:
    job = config.checkpoint.folder
    _refuse_own_steps(config)
    if config.checkpoint.enabled and not (resume or fresh) and step_folders(job):
        raise UsageError(f"{job} holds checkpoints of an earlier run: --resume goes on, --fresh starts over")
    if resume:
        refuse_changed_settings(config)
    try:
        return _train(config, resume)
    except (RuntimeError, MemoryError) as error:
        if config.zero is not None and zero.is_lost(error):
            whole = f"The checkpoints in {job} are whole: go on with --resume"
            raise CallamaError(
                "another process of this run has ended; what it said stands above, if it could say anything. "
                f"{'No checkpoint was written yet: start again' if _left(config) is None else whole}"
            ) from None
        if is_out_of_memory(error):
            traceback.clear_frames(error.__traceback__)  # the step's tensors: looking at the disk takes memory too
            if VALIDATING in getattr(error, "__notes__", ()):
                raise CallamaError(f"out of memory {VALIDATING}; {_how_to_validate(config)}") from None
            raise CallamaError(f"out of memory; {what_takes_less(config)}{_how_to_try_again(config)}") from None
        raise


def _refuse_own_steps(config: TrainConfig) -> None:
    """A base among the job's own checkpoints would be removed with them: by --fresh, or when newer ones replace it."""
    if not config.checkpoint.enabled:
        return
    base = find_adapter(config.model_ckpt_file).resolve()
    if any(base.is_relative_to(folder.resolve()) for folder in step_folders(config.checkpoint.folder)):
        raise UsageError(f"{config.model_ckpt_file} is a checkpoint of this job itself, which removes its older ones; "
                         f"train under {config.another_job}")  # fmt: skip


def _how_to_try_again(config: TrainConfig) -> str:
    """With other settings than those of the checkpoints that are there, from which a run goes on with its own only."""
    if (stays := _left(config)) is None:
        return ""
    other = config.another_job
    return f". With a changed setting train anew under {other}, since --resume takes none; {stays} stays"


def _how_to_validate(config: TrainConfig) -> str:
    """In less memory, with which a run may go on."""
    stays = _left(config)
    again = "start again" if stays is None else f"go on with --resume, from {stays}"
    return f"{what_validates_in_less(config)}, and {again}"


def _left(config: TrainConfig) -> Path | None:
    """The checkpoint that a run which broke could go on from."""
    return newest(config.checkpoint.folder) if config.checkpoint.enabled else None


def start(config: TrainConfig) -> tuple[Run, Engine]:
    """What a run works with, and the engine that the settings ask for."""
    if config.zero is None:
        run = prepare(config)
        return run, PlainEngine(run.model, config.optimizer, config.train.gradient_clipping)
    zero.join(config)
    run = prepare(config, zero.builder(config))
    engine = zero.ZeroEngine(run.model, config)
    if engine.rank:
        torch.manual_seed(config.seed + engine.rank)  # processes drop different activations
    return run, engine


def _train(config: TrainConfig, resume: bool) -> dict[str, Any]:
    job = config.checkpoint.folder
    run, engine = start(config)
    questions = Questions(config, run, engine)
    budget = config.train.micro_batch_size * config.model.max_seq_len
    epochs = EpochPlans(Sizes.of(run.train_data), config.seed, budget)
    planned = planned_steps(config, epochs, engine.ranks)
    progress = Progress(planned_steps=planned, total_steps=planned)
    folder: Path | None = None
    if resume:
        progress, folder = restore(config, run, engine, progress)
    curves, peak = config.tensorboard.folder if config.tensorboard.enabled else None, 0.0
    if curves:
        peak = float(engine.total(torch.tensor(measured_peak(run.device, run.dtype), dtype=torch.float64)))
    watch = Watch(curves, progress, peak, silent=bool(engine.rank))
    if config.checkpoint.enabled and engine.rank == 0:
        sweep(job, everything=not resume)
    if anew := begin_scores(config, run, progress):
        watch.say(anew)
    if config.optimizer.lr is not None:
        said = "optimizer.lr has no effect: the rate follows scheduler.min_lr and scheduler.max_lr"
        watch.say(config.spelled(said))
    processes = f"{engine.ranks} processes on " if engine.ranks > 1 else ""
    watch.say(
        f"training {run.trainable:,} parameters on {processes}{run.device} in {str(run.dtype).removeprefix('torch.')}: "
        f"{len(run.train_data):,} conversations, {int(run.train_data.lengths.sum()):,} tokens, "
        f"{progress.total_steps - progress.step} steps"
    )
    if progress.step >= progress.total_steps:
        on = "to train on, start from the result (merge an adapter first) under another job name"
        watch.say(f"nothing is left to do: all {progress.step} steps are done; {on}")
    elif config.scheduler.warmup_num_steps >= planned:
        given = f"{config.spelled('scheduler.warmup_num_steps')} is {config.scheduler.warmup_num_steps}"
        watch.say(f"{given} and the run has {planned} steps: the rate only rises")
    with interruptible() as stop:
        try:
            return _loop(config, run, engine, questions, epochs, progress, folder, watch, stop)
        finally:
            watch.close()


class Step(NamedTuple):
    """What one step did, of all processes together: sums over supervised tokens, all tokens, operations."""

    sums: Sums
    tokens: int
    flops: float
    learning_rate: float
    gradient_norm: float


def _step(config: TrainConfig, run: Run, engine: Engine, epochs: EpochPlans, progress: Progress) -> Step:
    """One optimizer step: micro-batches there and back, then one update with the mean over all supervised tokens."""
    lora = None if config.method == "full" else config.lora.params()
    own_sums, own_work = Sums(), torch.zeros(2, dtype=torch.float64)
    for batch, counts, last in _step_batches(config, run, epochs, progress, engine):
        result = engine.loss(batch)
        engine.backward(result.total if counts else result.total * 0, last=last)
        if counts:
            own_sums.add(result)
            load = Load(batch.documents, len(result.losses))
            own_work += torch.tensor([load.tokens, micro_batch_flops(run.params, lora, load)])
    sums = own_sums.over(engine.total)
    tokens, flops = engine.total(own_work).tolist()
    rate = learning_rate(progress.step, pace.schedule_steps(config, progress), config.scheduler)
    norm = engine.step(rate, max(sums.tokens, 1))
    return Step(sums, int(tokens), flops, rate, norm)


def _step_batches(
    config: TrainConfig, run: Run, epochs: EpochPlans, progress: Progress, engine: Engine
) -> Iterator[tuple[MicroBatch, bool, bool]]:
    """This process's micro-batches of one optimizer step, whether each counts, and whether it is the last;
    moves the cursor on, into the next epoch at an end."""
    batches = epochs[progress.epoch]
    end = min(progress.micro_batch + config.train.gradient_accumulation_steps * engine.ranks, len(batches))
    mine = list(shares(batches[progress.micro_batch : end], engine))
    for at, (indices, counts) in enumerate(mine, 1):
        yield collate(run.train_data, indices).to(run.device), counts, at == len(mine)
    progress.micro_batch = end
    if end == len(batches):
        progress.epoch, progress.micro_batch = progress.epoch + 1, 0


def _loop(
    config: TrainConfig,
    run: Run,
    engine: Engine,
    questions: Questions,
    epochs: EpochPlans,
    progress: Progress,
    folder: Path | None,
    watch: Watch,
    stop: StopRequest,
) -> dict[str, Any]:
    run.model.train()
    sums, last_loss, last_validation, stopping = Sums(), None, None, None
    while progress.step < progress.total_steps and stopping is None and not give_up(config, progress):
        began = time.monotonic()
        step = _step(config, run, engine, epochs, progress)
        sums += step.sums
        last_loss = step.sums.loss
        if not math.isfinite(last_loss) or not math.isfinite(step.gradient_norm):
            written = f"The last good checkpoint is {folder or 'not written yet'}"
            off = config.spelled("No checkpoint is written (checkpoint.enabled is false)")
            raise CallamaError(
                f"loss {last_loss} and gradient norm {step.gradient_norm} at step {progress.step + 1} are not finite; "
                f"lower {config.spelled('scheduler.max_lr')}. {written if config.checkpoint.enabled else off}"
                f"{_how_to_try_again(config)}"
            )
        progress.step += 1
        progress.tokens += step.tokens
        progress.flops += step.flops
        progress.supervised_tokens += step.sums.tokens
        progress.seconds += time.monotonic() - began
        progress.elapsed_seconds += time.monotonic() - began
        pace.fit_into_time(config, progress, watch, engine)
        stepped = time.monotonic()
        finished, better = progress.step == progress.total_steps, False
        # Read once: what is asked for later is done after the next step.
        stopping = None if finished else _asked_of_any(engine, stop)
        if progress.step % config.steps_per_print == 0 or finished or stopping is not None:
            watch.step(progress, sums, step.learning_rate, step.gradient_norm, peak_memory_bytes(run.device))
            sums = Sums()
        if run.validation_data is not None and (progress.step % config.validation.interval == 0 or finished):
            with noted_as_validating():
                last_validation, answers = validate(config, run, engine), questions.ask()
            watch.validation(progress.step, last_validation, answers)
            better = note_score(config, progress, last_validation, answers)
            finished = finished or give_up(config, progress)
        due = better or progress.step % config.checkpoint.save_interval == 0 or finished or stopping is not None
        if config.checkpoint.enabled and due:
            folder = save(config, run, engine, progress)
        progress.elapsed_seconds += time.monotonic() - stepped
    _say_why_it_ended(config, progress, folder, watch, stopping is not None)
    best = step_folder(config, progress.best_step) if progress.best_step and config.checkpoint.enabled else None
    return {
        **asdict(progress),
        "train_loss": last_loss,
        "validation_loss": last_validation.loss if last_validation else None,
        "validation_accuracy": last_validation.accuracy if last_validation else None,
        "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
        "supervised_tokens_per_second": progress.supervised_tokens / max(progress.seconds, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(run.device),
        "checkpoint": str(folder) if folder else None,
        "best_checkpoint": str(best) if best else None,
        "interrupted": stopping is not None,
        "ended_by": stopping.name if stopping else None,
    }


def _asked_of_any(engine: Engine, stop: StopRequest) -> signal.Signals | None:
    """The signal that asked a process to end, the same for all of them: some may have heard none."""
    heard = engine.total(torch.tensor([int(stop.asked == number) for number in ENDING]))
    return next((number for number, count in zip(ENDING, heard.tolist(), strict=True) if count), None)


def _say_why_it_ended(
    config: TrainConfig, progress: Progress, folder: Path | None, watch: Watch, stopping: bool
) -> None:
    if stopping:
        off = config.spelled("nothing saved (checkpoint.enabled is false)")
        saved = f"saved in {folder}; go on with --resume" if folder else off
        watch.say(f"stopped at step {progress.step}, {saved}")
    elif give_up(config, progress):
        waited = f"{progress.waited} validations without a better {config.validation.best_by}"
        watch.say(f"stopped at step {progress.step} after {waited}; the best was at step {progress.best_step}")
