"""Saving a run and putting it back, bit for bit on a CPU: adapter, optimizer, random states, position.

What the result depends on must not have changed in between: settings are held against the saved ones
before anything is loaded; data, base and the precision that was chosen by what the manifest says of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import MANIFEST, read_json
from callama.train.checkpoint import (
    CONFIG,
    TRAINER,
    Progress,
    engine_folder,
    load_trainer,
    manifest_of,
    newest,
    point_latest,
    require_undamaged,
    save_checkpoint,
    step_folder,
    step_folders,
)
from callama.train.config import TrainConfig
from callama.train.engine import Engine
from callama.train.setup import Run
from callama.weights.adapter import LATEST, find_adapter
from callama.weights.native import PARAMS

# What a checkpoint's manifest says, of the base's files and of ``auto``.
_CONTENTS, _SHAPE, _PRECISION = "base_contents", "base_params", "computed_in"
_DATA, _TOKENIZER = "data_sha256", "tokenizer_sha256"
_MAY_CHANGE = ("steps_per_print", "checkpoint", "tensorboard", "validation", "device", "check_memory", "hardware")

# Read by nothing in training; and paths of files that are held by what they contain, where the manifest tells of it.
_NO_EFFECT = ("name", "optimizer.lr", "model_config.max_batch_size", "model_config.use_cache")
_PATHS = ("model_ckpt_file", "tokenizer_file", "train.dataset_sources")


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
    if engine.rank == 0 and find_adapter(config.checkpoint.folder) != folder:
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
    before, now = manifest_of(folder), run.facts
    otherwise = "put the earlier one back, or start over with --fresh"
    if before.get(_DATA) != now[_DATA] or before.get(_TOKENIZER, now[_TOKENIZER]) != now[_TOKENIZER]:
        raise CallamaError(f"{run.train_data.path} has changed since {folder} was written; {otherwise}")
    if before.get(_CONTENTS, now[_CONTENTS]) != now[_CONTENTS]:
        raise CallamaError(
            f"the weights in {config.model_ckpt_file} have changed since {folder} was written; {otherwise}"
        )
    require_undamaged(folder / PARAMS)
    shape = {"use_scaled_rope": False} | (before.get(_SHAPE) or read_json(folder / PARAMS, "the shape of the base"))
    for key, value in now[_SHAPE].items():
        if (was := shape.get(key, value)) != value:
            raise CallamaError(
                f"{key} of the base, {config.model_ckpt_file}, was {was} when {folder} was written and is {value} now; "
                f"put the earlier {PARAMS} back, or start over with --fresh"
            )
    if (saved := before.get(_PRECISION, now[_PRECISION])) != now[_PRECISION]:
        raise CallamaError(
            f"{folder} was computed in {saved}, and this run would compute in {now[_PRECISION]} on {run.device}; "
            f"go on with {config.spelled(f'dtype={saved}')}, or start over with --fresh"
        )


def _newest(job: Path) -> Path:
    if (folder := newest(job)) is None:
        raise UsageError(f"{job} holds no checkpoint to resume; start over with --fresh")
    if not any((folder / name).is_file() for name in (TRAINER, MANIFEST)):
        there = ", ".join(step.name for step in step_folders(job))
        other = f"there are {there}: write one of them into {job / LATEST}" if there else "start over with --fresh"
        raise UsageError(f"{job / LATEST} names {short(folder.name)}, which is no checkpoint; {other}")
    return folder


def refuse_changed_settings(config: TrainConfig) -> None:
    """Holds the settings against those of the newest checkpoint, before anything is loaded.

    Raises:
        UsageError: there is no checkpoint. CallamaError: a setting differs that the result depends on.
    """
    folder = _newest(config.checkpoint.folder)
    require_undamaged(folder / CONFIG)
    before, now = dict(_flat(read_json(folder / CONFIG, "the settings of the run"))), dict(_flat(config.saved()))
    # What ``auto`` stands for is known when the device is.
    facts = manifest_of(folder)
    chosen = _PRECISION in facts and "auto" in (before.get("dtype"), now.get("dtype"))
    may_change = (*_MAY_CHANGE, "dtype") if chosen else _MAY_CHANGE
    passed = (*_NO_EFFECT, *_PATHS) if {_CONTENTS, _SHAPE, _DATA, _TOKENIZER} <= facts.keys() else _NO_EFFECT
    for key in now | before:  # a section that is left out has none of its keys
        if key.split(".")[0] not in may_change and key not in passed and before.get(key) != now.get(key):
            was, become = ("not set" if value is None else value for value in (before.get(key), now.get(key)))
            raise CallamaError(
                f"{config.spelled(key)} was {was} in {folder} and is {become} now; put it back, train with it under "
                f"{config.another_job}, or start over with --fresh, which removes these"
            )


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
