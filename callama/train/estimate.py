"""What a run will need, before anything is loaded: memory of each device, and time.

Memory is counted from the shape of the model and of the largest micro-batch (``callama.train.memory``);
beside it stands what this program takes already. Time is measured on one block of the model with
random weights, where the device is this machine's.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import torch

from callama.common.errors import CallamaError, UsageError
from callama.data.dataset import Dataset
from callama.data.pack import EpochPlans, Sizes, collate, plan, spread
from callama.model import nf4
from callama.model.device import choose_device, require_dtype
from callama.model.params import ModelParams
from callama.train import memory
from callama.train.config import TrainConfig
from callama.train.main_memory import free_bytes, resident_bytes
from callama.train.memory import Load, Setting
from callama.train.out_of_memory import SHORTER, computed_in, less_memory
from callama.train.probe import measured_pace
from callama.train.schedule import planned_steps
from callama.weights.adapter import find_adapter
from callama.weights.native import PARAMS, WEIGHTS, read_native, read_params

GIB = 2**30
ASSUMED_CUDA_BYTES = 1 << 30  # context and kernels of a GPU that is not here to be asked
ASSUMED_SUPERVISED = 0.25  # of the tokens, where there are no data yet


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds. ``parts`` are not all there at once; ``peak`` is the most at any time, with what the
    program itself takes. ``seconds_per_step`` and those of one ``validation``, from the fastest and the slowest of some
    measurements, and ``steps`` are None where they cannot be known; there are so many ``validations``, the last of
    them after the last step. ``max_minutes`` is the limit of the settings, ``max_tokens`` the one that data must be
    built with for ``changes``, where they are not."""

    device: str
    devices: int
    parts: dict[str, int]
    program: int
    peak: int
    available: int
    load: Load
    changes: list[str]
    steps: int | None
    seconds_per_step: tuple[float, float] | None = None
    max_minutes: float | None = None
    max_tokens: int | None = None
    validation: tuple[float, float] | None = None
    validations: int = 0

    @property
    def limited(self) -> tuple[float, float] | None:
        """What ``train.max_minutes`` limits: seconds of all steps and of the validations between them."""
        if self.seconds_per_step is None or self.steps is None:
            return None
        between = max(self.validations - 1, 0)
        pairs = zip(self.seconds_per_step, self.validation or (0.0, 0.0), strict=True)
        low, high = (self.steps * step + between * validation for step, validation in pairs)
        return low, high

    @property
    def seconds(self) -> tuple[float, float] | None:
        """Of the whole run, or of as much of it as ``train.max_minutes`` leaves time for and the last validation."""
        if self.limited is None:
            return None
        most = float("inf") if self.max_minutes is None else 60 * self.max_minutes
        last = self.validation if self.validation and self.validations else (0.0, 0.0)
        low, high = (min(limited, most) + end for limited, end in zip(self.limited, last, strict=True))
        return low, high

    @property
    def fits(self) -> bool:
        """Whether it does."""
        return self.peak <= self.available

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "fits": self.fits, "seconds": self.seconds}


def _shape(config: TrainConfig) -> tuple[ModelParams, bool, int]:
    """The model's shape, whether its output is its embedding, and the size of its file, as far as it is there."""
    given = find_adapter(config.model_ckpt_file)
    folder, weights = (given, given / WEIGHTS) if given.is_dir() else (given.parent, given)
    size = weights.stat().st_size if weights.is_file() else 0
    if size:
        checkpoint = read_native(folder, weights)
        return checkpoint.params, checkpoint.tied, size
    if (folder / PARAMS).is_file():
        return read_params(folder), False, 0
    try:
        return ModelParams.from_meta(config.model.shape()), False, 0
    except ValueError as error:
        raise UsageError(
            f"{given} does not exist, and model_config does not say the model's shape either: {error}"
        ) from None


def _documents(sizes: Sizes, indices: list[int]) -> list[list[int]]:
    """Lengths of trunks and branches, as ``collate`` lays these conversations."""
    out = []
    for _, group in groupby(indices, key=lambda i: sizes.groups[i]):
        members = list(group)
        trunk = int(sizes.openings[members[0]]) if len(members) > 1 else 0
        own = [int(sizes.lengths[i]) - 1 - trunk for i in members]
        out += [[trunk, *own]] if trunk else [[n] for n in own]
    return out


def _whole_sequences(config: TrainConfig) -> Load:
    """A micro-batch of data that are not there to be looked at."""
    length, sequences = config.model.max_seq_len, config.train.micro_batch_size
    return Load([[length]] * sequences, int(length * sequences * ASSUMED_SUPERVISED))


def _load(config: TrainConfig, setting: Setting) -> tuple[Load, float, int | None]:
    """The micro-batch that takes the most, the mean one's share of its tokens, and the run's steps; assumed where
    the data set is not built yet."""
    budget = config.train.micro_batch_size * config.model.max_seq_len
    source = config.train.dataset_sources[0]
    if len(config.train.dataset_sources) != 1 or not source.is_file():
        return _whole_sequences(config), 1.0, None
    data = Dataset(source)
    if not len(data):
        raise CallamaError(f"{source} is empty; build it again from a file with conversations")
    sizes = Sizes.of(data)
    epochs = EpochPlans(sizes, config.seed, budget)
    laid = [Load(_documents(sizes, batch), 0) for batch in epochs[0]]
    most = max(range(len(laid)), key=lambda at: memory.kept_by_block(setting, laid[at]))
    supervised = int(collate(data, epochs[0][most]).supervised.sum())
    share = sum(load.tokens for load in laid) / (len(laid) * laid[most].tokens)
    return Load(laid[most].documents, supervised), share, planned_steps(config, epochs, setting.devices)


def _tokens_validated(config: TrainConfig) -> int:
    """Those that one validation reads; none where there are no data to validate on, or not yet."""
    sources = config.validation.dataset_sources
    if not config.validation.enabled or len(sources) != 1 or not sources[0].is_file():
        return 0
    sizes = Sizes.of(Dataset(sources[0]))
    budget = config.validation.batch_size * config.model.max_seq_len
    batches = spread(plan(sizes, range(len(sizes.lengths)), budget), config.validation.steps)
    return sum(Load(_documents(sizes, batch), 0).tokens for batch in batches)


def _available(device: torch.device) -> tuple[int, int]:
    """What the program takes on the device, and what the device has for it, itself included."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    resident = resident_bytes()
    return resident, resident + free_bytes() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _setting(config: TrainConfig, params: ModelParams, tied: bool, device: str, devices: int) -> Setting:
    lora = None if config.method == "full" else config.lora.params()
    dtype = computed_in(config, device)
    accumulates = config.train.gradient_accumulation_steps > 1
    packed = config.method == "qlora"
    on_cpu, dropout = device == "cpu", config.model.dropout()
    return Setting(
        params, tied, lora, packed, dtype, config.train.recompute, accumulates, on_cpu, config.zero, devices, dropout
    )


def estimate(config: TrainConfig, *, here: bool = False, timed: bool = False) -> Estimate:
    """Estimates a run; ``here`` on this machine whatever ``hardware`` says, ``timed`` with its time too.

    Raises:
        UsageError, CallamaError: settings that do not go together, no shape, damaged files.
    """
    config.require_possible()
    params, tied, file_bytes = _shape(config)
    planned = not here and config.hardware.memory_gib is not None
    if planned:
        device = "cpu" if config.device == "cpu" else "cuda"
        program = ASSUMED_CUDA_BYTES if device == "cuda" else resident_bytes()
        available = int((config.hardware.memory_gib or 0) * GIB)
    else:
        try:
            place = choose_device(config.place)
            require_dtype(config.dtype, place)
        except ValueError as error:
            raise UsageError(
                f"{config.spelled(str(error))}; to plan for a GPU that is not here, set hardware.memory_gib"
            ) from None
        device = place.type
        if config.method == "qlora":
            nf4.library()  # part of the program, and better missed now than after loading
        program, available = _available(place)
    devices = 1 if config.zero is None else int(os.environ.get("WORLD_SIZE", config.hardware.devices))

    def peak_of(setting: Setting, load: Load) -> int:
        need = memory.peak_bytes(setting, load)
        if setting.on_cpu:  # while the weights are copied, the pages of their file are resident too
            need = max(need, memory.weight_bytes(setting) + file_bytes)
        return program + need

    setting = _setting(config, params, tied, device, devices)
    load, mean_share, steps = _load(config, setting)
    peak = peak_of(setting, load)
    changes: list[str] = []
    max_tokens = None
    if peak > available:
        for change, changed in less_memory(config, device):
            if change.startswith(SHORTER) and changes and changes[-1].startswith(SHORTER):
                changes.pop()
            changes.append(config.spelled(change))
            other = _setting(changed, params, tied, device, devices)
            try:
                shorter, _, built = _load(changed, other)
            except CallamaError:  # a conversation is longer than that: of data that are built again
                shorter, built = _whole_sequences(changed), None
            max_tokens = changed.model.max_seq_len if change.startswith(SHORTER) and built is None else None
            if peak_of(other, shorter) <= available:
                break
        else:
            changes, max_tokens = [], None
    parts, minutes = memory.parts(setting, load), config.train.max_minutes
    found = Estimate(device, devices, parts, program, peak, available, load, changes, steps, None, minutes, max_tokens)
    if not timed or planned or peak > available:
        return found
    batches = config.train.gradient_accumulation_steps * mean_share
    pace = measured_pace(setting, load, batches, torch.device(device))
    if steps is None or not (tokens := _tokens_validated(config)):
        return replace(found, seconds_per_step=pace.step)
    low, high = (tokens / devices * seconds for seconds in pace.read)
    return replace(
        found, seconds_per_step=pace.step, validation=(low, high), validations=-(-steps // config.validation.interval)
    )


def require_memory(config: TrainConfig) -> None:
    """Refuses a run that cannot fit into this machine.

    Raises:
        CallamaError: it cannot; says how much is missing and what would make it fit.
    """
    found = estimate(config, here=True)
    if not found.fits:
        raise CallamaError(f"{refusal(found)}; check_memory=false starts it all the same")


def refusal(found: Estimate) -> str:
    """Why a run cannot be, in a sentence."""
    needs = f"this run needs about {found.peak / GIB:.1f} GiB on each device and there are {found.available / GIB:.1f}"
    if not found.changes:
        return f"{needs}; no setting makes it fit: it takes a larger device, more of them, or a smaller model"
    built = "" if found.max_tokens is None else f", and data built with --max-tokens {found.max_tokens}"
    return f"{needs}; it fits with {' '.join(found.changes)}{built}"
