"""A DeepSpeed ZeRO checkpoint becomes one state dict: the fp32 numbers that the processes hold in parts.

The layout is DeepSpeed's (``deepspeed/utils/zero_to_fp32.py`` of 0.19): ``*_optim_states.pt`` of each
process and ``*_model_states.pt`` with the parameters' names and shapes. Files are read without
running code: empty classes stand for the few that DeepSpeed pickles.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, name_of, read_manifest
from callama.common.places import require_apart
from callama.contract import tool_uses
from callama.weights.adapter import (
    adapter_of_state,
    base_name,
    find_adapter,
    require_factors_only,
    save_adapter,
)
from callama.weights.adapter_config import CONFIG as ADAPTER_CONFIG
from callama.weights.adapter_config import ORIGINAL_CONFIG
from callama.weights.lazy import finite, of_tensor
from callama.weights.native import PARAMS, WEIGHTS, read_params
from callama.weights.pth import require_zip
from callama.weights.seal import require_as_written

_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt")


class _Ignored:
    """Stands where DeepSpeed pickles objects of its own that nothing here needs."""


class _Stage(int):
    """Stands for DeepSpeed's enumeration of stages."""


_STAND_INS = [
    (_Stage, "deepspeed.runtime.zero.config.ZeroStageEnum"),
    (_Ignored, "deepspeed.runtime.fp16.loss_scaler.LossScaler"),
    (_Ignored, "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler"),
    (_Ignored, "deepspeed.utils.tensor_fragment.fragment_address"),
]


def load_shard(path: Path) -> Any:
    """One file of a ZeRO checkpoint; only tensors and plain values come out of it.

    Raises:
        UsageError: the file is missing. CallamaError: it is damaged, or refers to anything else.
    """
    require_zip(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} does not have the checksum that was stored with it")
        with torch.serialization.safe_globals(_STAND_INS):  # type: ignore[arg-type]
            if foreign := torch.serialization.get_unsafe_globals_in_checkpoint(path):
                raise ValueError(f"it refers to {foreign[0]}, which no part needs; it may be harmful and was not run")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except ValueError as error:
        raise CallamaError(f"{path} cannot be read as a part of a DeepSpeed checkpoint: {error}") from None
    except Exception as error:  # zip, pickle and torch raise nearly anything on damaged bytes, with advice not ours
        raise CallamaError(
            f"{path} cannot be read as a part of a DeepSpeed checkpoint: it is damaged ({type(error).__name__}); "
            "copy it again"
        ) from None


def consolidated(folder: Path) -> dict[str, Tensor]:
    """The trained parameters in a checkpoint's folder, whole, in fp32, by their names.

    Raises:
        UsageError: there are no files of DeepSpeed.
        CallamaError: they are damaged, were changed or do not fit together.
    """
    try:
        return _consolidated(folder)
    except CallamaError:
        raise
    except Exception as error:  # whatever can be in a file may be where a list of tensors should be
        raise CallamaError(f"the parts in {folder} do not fit their shapes ({error}); is the copy complete?") from None


def _consolidated(folder: Path) -> dict[str, Tensor]:
    parts = _parts(folder)
    model_states = sorted(folder.glob("*_model_states.pt"))
    if not model_states:
        raise CallamaError(f"{folder} has no *_model_states.pt, which names the parameters; is the copy complete?")
    require_as_written(model_states[0])
    first = _get(parts[0], "optimizer_state_dict", dict, folder)
    if any(_get(p, "optimizer_state_dict", dict, folder).get("zero_stage") != first.get("zero_stage") for p in parts):
        raise CallamaError(f"the files in {folder} are of different stages of ZeRO; are they of one checkpoint?")
    stage = first.get("zero_stage")
    groups = _get(load_shard(model_states[0]), "param_shapes", list, model_states[0])
    if stage not in (1, 2, 3):
        raise CallamaError(f"{folder} is of ZeRO stage {stage}; 1, 2 and 3 can be consolidated")
    key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
    flats = [list(part["optimizer_state_dict"][key]) for part in parts]
    for rank in range(1, len(flats)):
        if _same(flats[rank], flats[rank - 1]):
            raise CallamaError(f"{folder}: processes {rank - 1} and {rank} have the same part; is one file a copy?")
    return dict((_of_stage_3 if stage == 3 else _of_stage_2)(groups, flats))


def _same(part: list[Tensor], other: list[Tensor]) -> bool:
    """Whether all numbers are equal and not all zero, as padding and new factors are."""
    pairs = list(zip(part, other, strict=True))
    ends = (slice(0, 1 << 16), slice(None))  # nearly always, the first numbers tell already
    return all(torch.equal(a[end], b[end]) for end in ends for a, b in pairs) and any(a.any() for a in part)


def _get(state: Any, key: str, kind: type, path: Path) -> Any:
    if not isinstance(state, Mapping) or not isinstance(state.get(key), kind):
        raise CallamaError(f"{path} has no {key!r} as DeepSpeed 0.19 writes it; another version, or another tool?")
    return state[key]


def _parts(folder: Path) -> list[Any]:
    found = {int(m[1]): p for p in folder.iterdir() if (m := _RANK.search(p.name))} if folder.is_dir() else {}
    if not found:
        raise UsageError(f"{folder} holds no *_optim_states.pt of DeepSpeed; name a checkpoint or the job's folder")
    require_as_written(*found.values())
    parts = [load_shard(found[rank]) for rank in sorted(found)]
    count = _get(parts[0], "optimizer_state_dict", dict, folder).get("partition_count")
    counts = count if isinstance(count, list) else [count]
    expected = max((n for n in counts if type(n) is int), default=None)
    if sorted(found) != list(range(expected or 0)):
        raise CallamaError(f"{folder} has the parts of processes {sorted(found)} of {expected}; is the copy complete?")
    return parts


def _check_count(named: int, found: set[int], what: str) -> None:
    if found != {named}:
        raise ValueError(f"*_model_states.pt names {named:,} {what}, the parts have {', '.join(map(str, found))}")


def _of_stage_2(groups: list[Any], flats: list[list[Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Each group's parts one behind the other are its parameters one behind the other, and padding to twice the number
    of processes."""
    _check_count(len(groups), {len(of_rank) for of_rank in flats}, "groups")
    unit = 2 * len(flats)
    for index, shapes in enumerate(groups):
        flat = torch.cat([of_rank[index] for of_rank in flats])
        named = sum(shape.numel() for shape in shapes.values())
        _check_count(-(-named // unit) * unit, {-(-flat.numel() // unit) * unit}, "numbers")
        at = 0
        for name, shape in shapes.items():
            yield name, flat.narrow(0, at, shape.numel()).view(shape).clone()
            at += shape.numel()


def _of_stage_3(groups: list[Any], flats: list[list[Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Each parameter is cut into as many equal parts as there are processes, the last one padded."""
    wholes = [torch.cat(of_rank) for of_rank in flats]
    named = sum(-(-shape.numel() // len(wholes)) for shapes in groups for shape in shapes.values())
    _check_count(named, {whole.numel() for whole in wholes}, "numbers")
    at = 0
    for shapes in groups:
        for name, shape in shapes.items():
            each = -(-shape.numel() // len(wholes))
            whole = torch.cat([flat.narrow(0, at, each) for flat in wholes])
            yield name, whole[: shape.numel()].view(shape)
            at += each


def consolidate(source: Path, out: Path) -> int:
    """Writes the adapter in a ZeRO checkpoint as an adapter folder; returns how many numbers it has.

    ``source`` is a checkpoint's folder or the job's, of which the newest is taken. The original's
    ``lora.json`` and ``params.json`` lie in either.

    Raises:
        UsageError: a file is missing, or ``out`` lies in the source.
        CallamaError: files are damaged, were changed or do not fit together.
    """
    require_apart(out, source, folder := find_adapter(source))
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {found}; expected a DeepSpeed checkpoint's folder, or its job's")
    lora = next((p for p in (folder / ORIGINAL_CONFIG, folder.parent / ORIGINAL_CONFIG) if p.is_file()), None)
    if lora is None and ((folder / ADAPTER_CONFIG).is_file() or (folder / WEIGHTS).is_file()):
        raise UsageError(f"{folder} needs no consolidating: what it trained is whole in it, so use it as it is")
    if lora is None:
        raise UsageError(f"{folder / ORIGINAL_CONFIG} does not exist; the adapter's rank and scaling stand in it")
    params_file = next((p for p in (folder / PARAMS, folder.parent / PARAMS) if p.is_file()), folder / PARAMS)
    params = read_params(params_file)
    require_as_written(params_file, folder / ADAPTER_CONFIG)
    state = {name: finite(of_tensor(tensor), folder, name) for name, tensor in consolidated(folder).items()}
    adapter = adapter_of_state(folder, state, lora.parent, params)
    require_factors_only(folder, adapter)
    known = read_manifest(folder)
    carried: dict[str, Any] = {key: known[key] for key in ("base", "base_sha256", "dialect") if key in known}
    facts: dict[str, Any] = {
        "kind": "adapter", "source": name_of(folder), "dtype": "fp32", "dialect": tool_uses.NAME,
        **carried,
    }  # fmt: skip
    with atomic_folder(out, facts) as temporary:
        save_adapter(temporary, adapter, params, base_name(folder))
        for file in (lora, params_file):
            shutil.copyfile(file, temporary / file.name)
    return sum(a.numel() + b.numel() for a, b in adapter.factors.values())
