"""The training loop, whole, on one page: micro-batches, steps, validation, checkpoints, resume.

The loss of a step is the mean over all supervised tokens of its micro-batches, so accumulation changes
nothing but memory, and sharing the micro-batches among processes changes nothing but time. Everything
that the next step depends on is in the checkpoint.
"""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_json, read_manifest
from callama.data.pack import EpochPlans, MicroBatch, Sizes, collate, plan
from callama.train import zero
from callama.train.checkpoint import (
    CONFIG,
    Progress,
    checkpoint_folder,
    engine_folder,
    load_trainer,
    save_checkpoint,
    step_folders,
)
from callama.train.config import TrainConfig
from callama.train.engine import Engine, PlainEngine
from callama.train.schedule import learning_rate
from callama.train.setup import Run, prepare
from callama.train.watch import Sums, Watch, peak_memory_bytes
from callama.weights.adapter import LATEST, find_adapter

MEASURE_STEPS = 5  # the first steps are slower (warm-up of caches); plans are made from here on
_MAY_CHANGE = ("steps_per_print", "checkpoint", "tensorboard", "validation", "device")


def _planned_steps(config: TrainConfig, epochs: EpochPlans, ranks: int) -> int:
    """Steps of all epochs; what is left of an epoch at its end makes a shorter step."""
    per_step = config.train.gradient_accumulation_steps * ranks
    return sum(math.ceil(len(epochs[e]) / per_step) for e in range(config.train.num_epochs))


class _StopRequest:
    """Ctrl-C ends the run at the next step; a second one ends it at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, *_: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _interruptible() -> Iterator[_StopRequest]:
    request = _StopRequest()
    before = signal.signal(signal.SIGINT, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, before)


@torch.no_grad()
def validate(config: TrainConfig, run: Run, engine: Engine) -> Sums:
    """Loss and accuracy on the validation data, dropout off, in a fixed order."""
    assert run.validation_data is not None
    sums, budget = Sums(), config.validation.batch_size * config.model.max_seq_len
    batches = plan(Sizes.of(run.validation_data), range(len(run.validation_data)), budget)[: config.validation.steps]
    run.model.eval()
    for indices, counts in _shares(batches, engine):
        result = engine.loss(collate(run.validation_data, indices).to(run.device))
        if counts:
            sums.add(result)
    run.model.train()
    return sums.over(engine.total)


def _shares(batches: list[list[int]], engine: Engine) -> Iterator[tuple[list[int], bool]]:
    """This process's share of micro-batches, and whether each counts: all processes must run as many, so
    one with nothing left runs the first again for nothing."""
    for start in range(0, len(batches), engine.ranks):
        mine = start + engine.rank
        yield (batches[mine], True) if mine < len(batches) else (batches[0], False)


def _first(engine: Engine, value: int) -> int:
    """The first process's value, for all of them."""
    return int(engine.total(torch.tensor(0 if engine.rank else value)))


def train(config: TrainConfig, *, resume: bool = False, fresh: bool = False) -> dict[str, Any]:
    """Trains as configured and returns the result: steps, losses, throughput, the checkpoint's folder.

    Raises:
        UsageError, CallamaError: what ``prepare`` finds; a job folder with checkpoints and neither
        ``resume`` nor ``fresh``; a loss that is not finite.
    """
    job = config.checkpoint.folder
    if resume and fresh:
        raise UsageError("--resume goes on and --fresh starts over; give one of them")
    earlier = step_folders(job) if config.checkpoint.enabled and not resume else []
    if earlier and not fresh:
        raise UsageError(f"{job} holds checkpoints of an earlier run: --resume goes on, --fresh starts over")
    if resume:
        _refuse_changed_settings(config)
    try:
        return _train(config, earlier, resume)
    except RuntimeError as error:
        if config.zero is None or not zero.is_lost(error):
            raise
        raise CallamaError(
            "another process of this run has ended; what it said stands above, if it could say anything. "
            f"The checkpoints in {job} are whole: go on with --resume"
        ) from None


def _start(config: TrainConfig) -> tuple[Run, Engine]:
    if config.zero is None:
        run = prepare(config)
        return run, PlainEngine(run.model, config.optimizer, config.train.gradient_clipping)
    zero.join(config)
    run = prepare(config, zero.builder(config))
    engine = zero.ZeroEngine(run.model, config)
    if engine.rank:
        torch.manual_seed(config.seed + engine.rank)  # processes drop different activations
    return run, engine


def _train(config: TrainConfig, earlier: list[Path], resume: bool) -> dict[str, Any]:
    job = config.checkpoint.folder
    run, engine = _start(config)
    budget = config.train.micro_batch_size * config.model.max_seq_len
    epochs = EpochPlans(Sizes.of(run.train_data), config.seed, budget)
    planned = _planned_steps(config, epochs, engine.ranks)
    progress = Progress(planned_steps=planned, total_steps=planned)
    folder: Path | None = None
    if resume:
        progress, folder = _restore(config, run, engine, progress)
    watch = Watch(config.tensorboard.folder if config.tensorboard.enabled else None, progress, silent=bool(engine.rank))
    if earlier and engine.rank == 0:
        (job / LATEST).unlink(missing_ok=True)
        for old in earlier:
            shutil.rmtree(old)
    if config.optimizer.lr is not None:
        watch.say("optimizer.lr has no effect: the rate follows scheduler.min_lr and scheduler.max_lr")
    trainable = sum(a.numel() + b.numel() for a, b in engine.adapter(config.lora.params()).factors.values())
    processes = f"{engine.ranks} processes on " if engine.ranks > 1 else ""
    watch.say(
        f"training {trainable:,} parameters on {processes}{run.device} in {str(run.dtype).removeprefix('torch.')}: "
        f"{len(run.train_data):,} conversations, {int(run.train_data.lengths.sum()):,} tokens, "
        f"{progress.total_steps - progress.step} steps"
    )
    with _interruptible() as stop:
        try:
            result = _loop(config, run, engine, epochs, progress, folder, watch, stop)
        finally:
            watch.close()
    return result


def _loop(
    config: TrainConfig,
    run: Run,
    engine: Engine,
    epochs: EpochPlans,
    progress: Progress,
    folder: Path | None,
    watch: Watch,
    stop: _StopRequest,
) -> dict[str, Any]:
    run.model.train()
    sums, last_loss, last_validation, stopping = Sums(), None, None, False
    while progress.step < progress.total_steps and not stopping:
        began = time.monotonic()
        own_sums, own_tokens = Sums(), 0
        for batch, counts, last in _step_batches(config, run, epochs, progress, engine):
            result = engine.loss(batch)
            engine.backward(result.total if counts else result.total * 0, last=last)
            if counts:
                own_sums.add(result)
                own_tokens += batch.inputs.shape[1]
        step_sums = own_sums.over(engine.total)
        sums += step_sums
        progress.tokens += int(engine.total(torch.tensor(own_tokens)))
        rate = learning_rate(progress.step, _schedule_steps(config, progress), config.scheduler)
        norm = engine.step(rate, max(step_sums.tokens, 1))
        last_loss = step_sums.loss
        if not math.isfinite(last_loss) or not math.isfinite(norm):
            raise CallamaError(
                f"loss {last_loss} and gradient norm {norm} at step {progress.step + 1} are not finite; lower "
                f"scheduler.max_lr. The last good checkpoint is {folder or 'not written yet'}"
            )
        progress.step += 1
        progress.supervised_tokens += step_sums.tokens
        progress.seconds += time.monotonic() - began
        progress.elapsed_seconds += time.monotonic() - began
        _fit_into_time(config, progress, watch, engine)
        stepped = time.monotonic()
        finished = progress.step == progress.total_steps
        # Read once: what is asked for later is done after the next step.
        stopping = bool(engine.total(torch.tensor(int(stop.asked)))) and not finished
        done = finished or stopping
        if progress.step % config.steps_per_print == 0 or done:
            watch.step(progress, sums, rate, norm, peak_memory_bytes(run.device))
            sums = Sums()
        if run.validation_data is not None and (progress.step % config.validation.interval == 0 or done):
            last_validation = validate(config, run, engine)
            watch.validation(progress.step, last_validation)
        if config.checkpoint.enabled and (progress.step % config.checkpoint.save_interval == 0 or done):
            folder = _save(config, run, engine, progress)
        progress.elapsed_seconds += time.monotonic() - stepped
    if stopping:
        saved = f"saved in {folder}; go on with --resume" if folder else "nothing saved (checkpoint.enabled is false)"
        watch.say(f"stopped at step {progress.step}, {saved}")
    return {
        **asdict(progress),
        "train_loss": last_loss,
        "validation_loss": last_validation.loss if last_validation else None,
        "validation_accuracy": last_validation.accuracy if last_validation else None,
        "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
        "supervised_tokens_per_second": progress.supervised_tokens / max(progress.seconds, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(run.device),
        "checkpoint": str(folder) if folder else None,
        "interrupted": stopping,
    }


def _step_batches(
    config: TrainConfig, run: Run, epochs: EpochPlans, progress: Progress, engine: Engine
) -> Iterator[tuple[MicroBatch, bool, bool]]:
    """This process's micro-batches of one optimizer step, whether each counts, and whether it is the last;
    moves the cursor on, into the next epoch at an end."""
    batches = epochs[progress.epoch]
    end = min(progress.micro_batch + config.train.gradient_accumulation_steps * engine.ranks, len(batches))
    shares = list(_shares(batches[progress.micro_batch : end], engine))
    for at, (indices, counts) in enumerate(shares, 1):
        yield collate(run.train_data, indices).to(run.device), counts, at == len(shares)
    progress.micro_batch = end
    if end == len(batches):
        progress.epoch, progress.micro_batch = progress.epoch + 1, 0


def _schedule_steps(config: TrainConfig, progress: Progress) -> int:
    return min(config.scheduler.total_num_steps or progress.total_steps, progress.total_steps)


def _fit_into_time(config: TrainConfig, progress: Progress, watch: Watch, engine: Engine) -> None:
    """Plans as many steps as fit into ``train.max_minutes`` at the pace measured so far."""
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
    progress.total_steps = _first(engine, fitting)
    if progress.total_steps < progress.planned_steps and progress.step == 2 * MEASURE_STEPS:
        planned = f"{progress.total_steps} of {progress.planned_steps} steps"
        watch.say(f"about {planned} fit into {config.train.max_minutes:g} minutes")


def _save(config: TrainConfig, run: Run, engine: Engine, progress: Progress) -> Path:
    folder = checkpoint_folder(config, progress)
    if engine.rank == 0:
        shutil.rmtree(engine_folder(folder).parent, ignore_errors=True)
    random = {"torch": _of_all(engine, torch.get_rng_state())}
    if run.device.type == "cuda":
        random["cuda"] = _of_all(engine, torch.cuda.get_rng_state())
    adapter = engine.adapter(config.lora.params())
    trainer = {"optimizer": engine.state(engine_folder(folder)), "random": random}
    if engine.rank == 0:
        save_checkpoint(config, adapter, run.checkpoint.params, progress, trainer, run.facts)
    _first(engine, 0)  # nobody goes on before the checkpoint is whole
    return folder


def _of_all(engine: Engine, state: torch.Tensor) -> torch.Tensor:
    """(n,) of each process → (ranks, n)."""
    rows = torch.zeros(engine.ranks, len(state), dtype=torch.int32)
    rows[engine.rank] = state
    return engine.total(rows).to(torch.uint8)


def _restore(config: TrainConfig, run: Run, engine: Engine, progress: Progress) -> tuple[Progress, Path]:
    """Puts a run back where its newest checkpoint, the folder returned, stands.

    Raises:
        CallamaError: the data are not those of the checkpoint.
    """
    folder = find_adapter(config.checkpoint.folder)
    if read_manifest(folder).get("data_sha256") != run.facts["data_sha256"]:
        raise CallamaError(f"{run.train_data.path} has changed since {folder} was written; start over with --fresh")
    trainer = load_trainer(folder)
    engine.load_state(folder, trainer["optimizer"])
    torch.set_rng_state(trainer["random"]["torch"][engine.rank].clone())
    if "cuda" in trainer["random"] and run.device.type == "cuda":
        torch.cuda.set_rng_state(trainer["random"]["cuda"][engine.rank].clone())
    restored = Progress(**trainer["progress"])
    if config.train.max_minutes is None:
        restored = replace(restored, planned_steps=progress.planned_steps, total_steps=progress.planned_steps)
    return restored, folder


def _refuse_changed_settings(config: TrainConfig) -> None:
    """Holds the settings against those of the newest checkpoint, before anything is loaded.

    Raises:
        UsageError: there is no checkpoint. CallamaError: a setting differs that the result depends on.
    """
    job = config.checkpoint.folder
    folder = find_adapter(job) if job.is_dir() else job
    if folder == job:
        raise UsageError(f"{job} holds no checkpoint to resume; start without --resume")
    before = dict(_flat(read_json(folder / CONFIG, "the settings of the run")))
    for key, now in _flat(config.saved()):
        if key.split(".")[0] not in _MAY_CHANGE and before.get(key) != now:
            raise CallamaError(
                f"{key} was {before.get(key)} in {folder} and is {now} now; put it back, or start over with --fresh"
            )


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
