"""Saving a run and putting it back, bit for bit on a CPU: adapter, optimizer, random states, position.

What the result depends on must not have changed in between: settings are held against the saved ones
before anything is loaded; data, base and the precision that was chosen by what the manifest says of them.
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
from callama.train.checkpoint import (
    CONFIG,
    Progress,
    engine_folder,
    load_trainer,
    newest,
    point_latest,
    save_checkpoint,
    step_folder,
)
from callama.train.config import TrainConfig
from callama.train.engine import Engine
from callama.train.setup import Run
from callama.weights.adapter import find_adapter

_CONTENTS, _PRECISION = "base_contents", "computed_in"  # what a checkpoint's manifest says, of the files and ``auto``
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
        CallamaError: data, base or precision are not those of the checkpoint, or the engine cannot read it.
    """
    folder = _newest(config.checkpoint.folder)
    _refuse_changed_files(config, run, folder)
    trainer = load_trainer(folder)
    if engine.rank == 0 and find_adapter(folder.parent) != folder:
        point_latest(folder)
    engine.load_state(folder, trainer["optimizer"])
    torch.set_rng_state(trainer["random"]["torch"][engine.rank].clone())
    if "cuda" in trainer["random"] and run.device.type == "cuda":
        torch.cuda.set_rng_state(trainer["random"]["cuda"][engine.rank].clone())
    restored = Progress(**trainer["progress"])
    if config.train.max_minutes is None:
        restored = replace(restored, planned_steps=progress.planned_steps, total_steps=progress.planned_steps)
    return restored, folder


def _refuse_changed_files(config: TrainConfig, run: Run, folder: Path) -> None:
    before = read_manifest(folder)
    otherwise = "put the earlier one back, or start over with --fresh"
    if before.get("data_sha256") != run.facts["data_sha256"]:
        raise CallamaError(f"{run.train_data.path} has changed since {folder} was written; {otherwise}")
    if before.get(_CONTENTS, run.facts[_CONTENTS]) != run.facts[_CONTENTS]:
        raise CallamaError(
            f"the weights in {config.model_ckpt_file} have changed since {folder} was written; {otherwise}"
        )
    if (saved := before.get(_PRECISION, now := run.facts[_PRECISION])) != now:
        raise CallamaError(
            f"{folder} was computed in {saved}, and this run would compute in {now} on {run.device}; "
            f"go on with {config.spelled(f'dtype={saved}')}, or start over with --fresh"
        )


def _newest(job: Path) -> Path:
    if (folder := newest(job)) is None:
        raise UsageError(f"{job} holds no checkpoint to resume; start over with --fresh")
    return folder


def refuse_changed_settings(config: TrainConfig) -> None:
    """Holds the settings against those of the newest checkpoint, before anything is loaded.

    Raises:
        UsageError: there is no checkpoint. CallamaError: a setting differs that the result depends on.
    """
    folder = _newest(config.checkpoint.folder)
    before, now = dict(_flat(read_json(folder / CONFIG, "the settings of the run"))), dict(_flat(config.saved()))
    # What ``auto`` stands for is known when the device is.
    chosen = _PRECISION in read_manifest(folder) and "auto" in (before.get("dtype"), now.get("dtype"))
    may_change = (*_MAY_CHANGE, "dtype") if chosen else _MAY_CHANGE
    for key in now | before:  # a section that is left out has none of its keys
        if key.split(".")[0] not in may_change and before.get(key) != now.get(key):
            was, become = ("not set" if value is None else value for value in (before.get(key), now.get(key)))
            raise CallamaError(
                f"{config.spelled(key)} was {was} in {folder} and is {become} now; put it back, train with it under "
                f"another {config.spelled('checkpoint.job_name')}, or start over with --fresh, which removes these"
            )


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
