"""A run's checkpoints: ``JOB/step_000200`` folders and a file ``latest`` that names the newest whole one.

A folder holds the adapter in PEFT's layout (usable as it is), the original project's ``lora.json``
and ``params.json``, the settings in force, and ``trainer.pt`` with everything that going on needs.
It appears by one rename, and ``latest`` changes only after that; ``best`` names the one that validated
best. Under DeepSpeed it also holds the files of all processes, and each such folder and the job's what
``zero_to_fp32.py`` looks for.
"""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callama.common.errors import CallamaError
from callama.common.files import MANIFEST, Checksums, atomic_file, atomic_folder, read_manifest, write_json
from callama.model.params import ModelParams
from callama.train.config import TrainConfig
from callama.weights.adapter import LATEST, Adapter, find_adapter, save_adapter
from callama.weights.adapter_config import ORIGINAL_CONFIG
from callama.weights.native import PARAMS, own_facts, save_tensors, write_model
from callama.weights.seal import require_as_written

TRAINER, CONFIG, BEST = "trainer.pt", "config.json", "best"
_STEP = re.compile(r"step_(\d{6,})")


@dataclass
class Progress:
    """Where a run stands. ``micro_batch`` counts within the epoch; ``total_steps`` are the planned ones,
    or as many as fit into ``train.max_minutes``. ``seconds`` are those of steps, ``elapsed_seconds`` of
    everything since the first step, ``warm_up_seconds`` those of the first steps, which are slower.
    ``flops`` are the model's floating-point operations (``callama.train.peak``).
    ``best_score`` is the greatest so far, ``waited`` counts the validations since then; ``measured`` is what
    scores depend on beside the model."""

    planned_steps: int
    total_steps: int
    step: int = 0
    epoch: int = 0
    micro_batch: int = 0
    seconds: float = 0.0
    elapsed_seconds: float = 0.0
    warm_up_seconds: float = 0.0
    supervised_tokens: int = 0
    tokens: int = 0
    flops: float = 0.0
    best_by: str = ""
    best_score: list[float] = field(default_factory=list)
    best_step: int = 0
    waited: int = 0
    measured: dict[str, Any] = field(default_factory=dict)


def step_folders(job: Path) -> list[Path]:
    """The checkpoints of a job, oldest first."""
    found = [(int(m[1]), p) for p in job.iterdir() if (m := _STEP.fullmatch(p.name))] if job.is_dir() else []
    return [path for _, path in sorted(found)]


def newest(job: Path) -> Path | None:
    """The checkpoint to go on from: the one that ``latest`` names, or without one (a run was killed before it wrote
    it) that of the highest step, which is whole because it has its name."""
    if (found := find_adapter(job)) != job:
        return found
    return next((folder for folder in reversed(step_folders(job)) if (folder / TRAINER).is_file()), None)


def point_latest(folder: Path) -> None:
    """Has ``latest`` name a checkpoint."""
    _point(folder.parent / LATEST, folder)


def step_folder(config: TrainConfig, step: int) -> Path:
    """Where the checkpoint of this step belongs."""
    return config.checkpoint.folder / f"step_{step:06}"


def sweep(job: Path, *, everything: bool) -> None:
    """Removes what a run left that was killed while it wrote; ``everything``: also its checkpoints."""
    if everything:
        for pointer in (LATEST, BEST):
            (job / pointer).unlink(missing_ok=True)
        for folder in step_folders(job):
            _remove(folder)
    for left in {*job.glob(".step_*"), *job.glob(".*.tmp")}:
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _remove(folder: Path) -> None:
    """At once for whoever looks: a folder of this name is always whole."""
    doomed = folder.rename(folder.with_name(f".{folder.name}.removed"))
    shutil.rmtree(doomed)


def engine_folder(folder: Path) -> Path:
    """Where an engine writes its files before they move into the checkpoint: a place known to all
    processes, with the checkpoint's own name inside, which DeepSpeed writes into the files."""
    return folder.with_name(f".{folder.name}.engine") / folder.name


def save_checkpoint(
    config: TrainConfig,
    trained: Adapter | Mapping[str, Tensor],
    params: ModelParams,
    tokenizer: Path,
    progress: Progress,
    trainer: dict[str, Any],
    facts: dict[str, Any],
) -> Path:
    """Writes the checkpoint of this step, points ``latest`` at it (and ``best`` at the best) and removes the
    oldest beyond ``keep``."""
    job = config.checkpoint.folder
    folder = step_folder(config, progress.step)
    made = engine_folder(folder)
    checksums: dict[str, Checksums] = {}
    kind = "adapter checkpoint" if isinstance(trained, Adapter) else "native checkpoint"
    # The original's file cannot say that there are magnitudes.
    original = isinstance(trained, Adapter) and not config.lora.use_dora
    own = {} if isinstance(trained, Adapter) else own_facts(params)
    with atomic_folder(folder, {"kind": kind, **own, **facts}, checksums) as temporary:
        if isinstance(trained, Adapter):
            save_adapter(temporary, trained, params, str(facts["base"]))
            write_json(temporary / PARAMS, params.to_meta())
            if original:
                write_json(temporary / ORIGINAL_CONFIG, config.lora.original())
        else:
            checksums |= write_model(temporary, params, trained, tokenizer)
        write_json(temporary / CONFIG, config.saved())
        save_tensors({**trainer, "progress": asdict(progress)}, temporary / TRAINER)
        if made.is_dir():
            for file in made.iterdir():
                file.rename(temporary / file.name)
            for file in made.parent.glob("*.py"):
                shutil.copyfile(file, temporary / file.name)
            # zero_to_fp32.py reads the folder that this names, beside itself: here its own.
            (temporary / LATEST).write_text(".", encoding="utf-8")
    if made.parent.is_dir():
        for file in made.parent.glob("*.py"):
            file.replace(job / file.name)
        shutil.rmtree(made.parent)
        write_json(job / PARAMS, params.to_meta())
        if original:
            write_json(job / ORIGINAL_CONFIG, config.lora.original())
    best = step_folder(config, progress.best_step)
    if progress.best_step:
        _point(job / BEST, best)
    point_latest(folder)
    # A run that was put back to an older step finds newer ones, which do not count.
    written = step_folders(job)
    for old in written[: written.index(folder) + 1][: -config.checkpoint.keep]:
        if old != best:
            _remove(old)
    return folder


def _point(pointer: Path, folder: Path) -> None:
    with atomic_file(pointer) as temporary:
        temporary.write_text(folder.name + "\n", encoding="utf-8")


def load_trainer(folder: Path) -> dict[str, Any]:
    """The trainer's state; nothing but plain values and tensors is unpickled.

    Raises:
        CallamaError: the file is damaged or missing.
    """
    path = folder / TRAINER
    require_undamaged(path)
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise damaged(path, str(error).splitlines()[0]) from None
    return state


def manifest_of(folder: Path) -> dict[str, Any]:
    """What a checkpoint's manifest says, which every checkpoint has.

    Raises:
        CallamaError: it is damaged or missing.
    """
    path = folder / MANIFEST
    try:
        manifest = read_manifest(folder)
    except CallamaError as error:
        raise damaged(path, f"it cannot be read: {error}") from None
    if not isinstance(manifest.get("files"), dict):
        raise damaged(path, "it lists no files" if manifest else "it is missing or empty")
    return manifest


def require_undamaged(*paths: Path) -> None:
    """Holds files of a checkpoint, all of which it must have, against its manifest, before they are read: torch loads
    numbers without looking at their checksums, and what is damaged may look like another setting.

    Raises:
        CallamaError: one is not the file that was written, or is missing.
    """
    for path in paths:
        manifest_of(path.parent)
        if not path.is_file():
            raise damaged(path, "it is missing")
        try:
            require_as_written(path)
        except CallamaError:
            raise damaged(path, "its sha256 is not the one in the manifest beside it") from None


def damaged(path: Path, reason: str) -> CallamaError:
    """The error of a checkpoint's file that a run cannot go on from."""
    folder, job = path.parent, path.parent.parent
    # Nothing takes the place of a folder that is not known to be callama's.
    first = f"move {folder} elsewhere and " if path.name == MANIFEST else ""
    return CallamaError(
        f"{path} is damaged ({reason}); to go on from an older step, {first}write its name into {job / LATEST}; where "
        "there is none, start over with --fresh"
    )
