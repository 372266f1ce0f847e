"""Saving a run and putting it back, bit for bit on a CPU: adapter, optimizer, random states, position.

What the result depends on must not have changed in between: settings are held against the saved ones
before anything is loaded, the data by their hash.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_json, read_manifest
from callama.train.checkpoint import CONFIG, Progress, engine_folder, load_trainer, save_checkpoint, step_folder
from callama.train.config import TrainConfig
from callama.train.engine import Engine
from callama.train.setup import Run
from callama.weights.adapter import find_adapter

_MAY_CHANGE = ("steps_per_print", "checkpoint", "tensorboard", "validation", "device", "check_memory", "hardware")


def save(config: TrainConfig, run: Run, engine: Engine, progress: Progress) -> Path:
    """Writes a checkpoint of this step; every process calls it, and none goes on before it is whole."""
    folder = step_folder(config, progress.step)
    if engine.rank == 0:
        shutil.rmtree(engine_folder(folder).parent, ignore_errors=True)
    random = {"torch": _of_all(engine, torch.get_rng_state())}
    if run.device.type == "cuda":
        random["cuda"] = _of_all(engine, torch.cuda.get_rng_state())
    trained = engine.trained(config.lora.params())
    trainer = {"optimizer": engine.state(engine_folder(folder)), "random": random}
    if engine.rank == 0:
        save_checkpoint(config, trained, run.params, run.tokenizer.file, progress, trainer, run.facts)
    engine.total(torch.zeros(1))
    return folder


def _of_all(engine: Engine, state: Tensor) -> Tensor:
    """(n,) of each process → (ranks, n)."""
    rows = torch.zeros(engine.ranks, len(state), dtype=torch.int32)
    rows[engine.rank] = state
    return engine.total(rows).to(torch.uint8)


def restore(config: TrainConfig, run: Run, engine: Engine, progress: Progress) -> tuple[Progress, Path]:
    """Puts a run back where its newest checkpoint, the folder returned, stands.

    Raises:
        CallamaError: the data are not those of the checkpoint, or the engine cannot read it.
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


def refuse_changed_settings(config: TrainConfig) -> None:
    """Holds the settings against those of the newest checkpoint, before anything is loaded.

    Raises:
        UsageError: there is no checkpoint. CallamaError: a setting differs that the result depends on.
    """
    job = config.checkpoint.folder
    folder = find_adapter(job) if job.is_dir() else job
    if folder == job:
        raise UsageError(f"{job} holds no checkpoint to resume; start over with --fresh")
    before = dict(_flat(read_json(folder / CONFIG, "the settings of the run")))
    for key, now in _flat(config.saved()):
        if key.split(".")[0] not in _MAY_CHANGE and before.get(key) != now:
            raise CallamaError(
                f"{config.spelled(key)} was {before.get(key)} in {folder} and is {now} now; put it back, "
                "or start over with --fresh"
            )


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
