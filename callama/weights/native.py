"""The native checkpoint: a folder with Meta's ``params.json``, ``consolidated.pth`` and the tokenizer.

The state dict has Meta's names and is written in torch's zip format, tensor by tensor. A model that
is to run is memory-mapped; a conversion reads block by block (``open_native``). What Meta's
params.json cannot say (context, RoPE factor) stands in the folder's manifest.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor, nn

from callama.common.errors import CallamaError, UsageError
from callama.common.files import (
    MANIFEST,
    Checksums,
    atomic_folder,
    read_json,
    read_manifest,
    sha256_file,
    write_json,
)
from callama.common.progress import Meter
from callama.model.nf4 import NF4Linear
from callama.model.params import MAX_CONTEXT, ModelParams
from callama.model.transformer import Dropout, Transformer
from callama.text.tokenizer import Tokenizer
from callama.weights.adapter import OLDER_WEIGHTS, find_adapter, is_adapter
from callama.weights.adapter import WEIGHTS as ADAPTER
from callama.weights.adapter_config import ORIGINAL_CONFIG
from callama.weights.lazy import Lazy, check_files, of_tensor
from callama.weights.names import OUTPUT
from callama.weights.pth import open_pth, require_zip, save_pth
from callama.weights.seal import require_as_written
from callama.weights.source import Source, check_state, find_tokenizer

PARAMS, WEIGHTS, TOKENIZER_JSON = "params.json", "consolidated.pth", "tokenizer.json"
_ROPE_CONSTANT = "rope.freqs"  # carried along by Meta's older files


@dataclass(frozen=True)
class NativeCheckpoint:
    """A folder's shape and its memory-mapped tensors by Meta's names."""

    path: Path
    params: ModelParams
    state: dict[str, Tensor]

    @property
    def tied(self) -> bool:
        """Whether the embedding is also the output projection."""
        return OUTPUT not in self.state


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Memory-maps a state dict; nothing but tensors is unpickled.

    Raises:
        UsageError: the file is missing.
        CallamaError: it is damaged, or holds anything but a dict of tensors.
    """
    require_zip(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CallamaError(f"{path} cannot be read as a checkpoint of plain tensors: {reason}") from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CallamaError(f"{path} must hold a state dict: names and tensors, nothing else")
    return dict(state)


def save_tensors(value: Any, path: Path) -> None:
    """``torch.save`` with the system's errors: torch's own writer hides a full disk behind "unexpected pos".

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_params(place: Path, weights: Path | None = None) -> ModelParams:
    """The model's shape from ``params.json`` (or the folder it lies in) and what the manifest beside ``weights``, or
    else the one beside it, says that it cannot.

    Raises:
        UsageError: no params.json. CallamaError: its content is not a Llama 3 shape, or not the manifest's.
    """
    path = place / PARAMS if place.is_dir() else place
    raw = read_json(path, "Meta's params.json of a native checkpoint")
    places = [path.parent] if weights is None else [weights.parent, path.parent]
    beside = next((place for place in places if "max_seq_len" in read_manifest(place)), path.parent)
    facts = read_manifest(beside)
    if not isinstance(raw, Mapping):
        raise CallamaError(f"{path} must be a JSON object")
    for key in ("max_seq_len", "rope_scale_factor"):
        if type(value := facts.get(key, 1)) not in (int, float) or not 1 <= value <= MAX_CONTEXT:
            raise CallamaError(f"{beside / MANIFEST}: {key} must be a number above zero, at most 2^31: {short(value)}")
    try:
        params = ModelParams.from_meta(raw, max_seq_len=facts.get("max_seq_len"))
    except (TypeError, ValueError) as error:
        raise CallamaError(f"{path}: {error}") from None
    told = "rope_scale_factor" in facts
    if "max_seq_len" in facts and told != params.use_scaled_rope:
        raise CallamaError(
            f"{path} {'does not scale' if told else 'scales'} RoPE, of the model that {beside / MANIFEST} tells of "
            f"{'it is scaled' if told else 'it is not'}: name the params.json of these weights"
        )
    return replace(params, rope_scale_factor=facts.get("rope_scale_factor", params.rope_scale_factor))


def _native_folder(place: Path, weights: Path | None = None) -> Path:
    folder = find_adapter(place)
    others = folder.suffix == ".gguf" or any((folder / n).is_file() for n in ("config.json", "consolidated.00.pth"))
    # A trainer may leave an adapter's settings beside a model, and callama's checkpoints have a config.json too.
    alone = not others or any((folder / n).is_file() for n in (ADAPTER, OLDER_WEIGHTS, ORIGINAL_CONFIG))
    if weights is None and alone and is_adapter(folder) and not (folder / WEIGHTS).is_file():
        raise UsageError(
            f"{place} is an adapter, and a model is wanted here: name its base, or merge it into that first "
            f"(callama merge BASE {place} OUT); chat and evaluate also take it beside its base, with --adapter"
        )
    if others and not (folder / WEIGHTS).is_file():
        raise UsageError(
            f"{folder} is no native checkpoint ({PARAMS}, {WEIGHTS}); "
            f"make it one: callama convert {folder} DST --to native"
        )
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; expected a native checkpoint ({PARAMS}, {WEIGHTS})")
    return folder


def read_native(folder: Path, weights: Path | None = None) -> NativeCheckpoint:
    """Opens a native checkpoint; ``weights`` names the state dict where it lies elsewhere.

    Raises:
        UsageError: a file is missing.
        CallamaError: params and tensors disagree, naming the first tensor at fault.
    """
    folder = _native_folder(folder, weights)
    path = weights or folder / WEIGHTS
    params = read_params(folder, path)
    state = load_tensors(path)
    state.pop(_ROPE_CONSTANT, None)
    check_state(path, state, params, str(folder / PARAMS))
    return NativeCheckpoint(folder, params, state)


def require_own_tokenizer(checkpoint: NativeCheckpoint, tokenizer: Tokenizer) -> None:
    """Checks that a tokenizer is the checkpoint's: as many tokens, and where the checkpoint's folder has a
    file of the same name, the same content.

    Raises:
        CallamaError: it is not.
    """
    found, wanted = tokenizer.vocab_size, checkpoint.params.vocab_size
    if found != wanted:
        raise CallamaError(
            f"{tokenizer.file} has {found:,} tokens, the model in {checkpoint.path} {wanted:,}: "
            "this tokenizer does not belong to this checkpoint"
        )
    own = checkpoint.path / tokenizer.file.name
    if own.is_file() and sha256_file(own) != tokenizer.sha256:
        raise CallamaError(
            f"{tokenizer.file} is not the tokenizer of the checkpoint: {own} has other content. Use that one, or put "
            "the right one into its place"
        )


def build_model(
    checkpoint: NativeCheckpoint,
    *,
    dtype: torch.dtype,
    device: torch.device | None = None,
    dropout: Dropout | None = None,
) -> Transformer:
    """The model with the checkpoint's weights in ``dtype``, tensor by tensor."""
    with torch.device("meta"):
        model = Transformer(checkpoint.params, tied=checkpoint.tied, dropout=dropout)
    # A copy even where nothing is converted: parameters must not share memory with the checkpoint's tensors.
    state = {name: tensor.to(device=device, dtype=dtype, copy=True) for name, tensor in checkpoint.state.items()}
    model.load_state_dict(state, assign=True)
    return model


def build_packed(
    checkpoint: NativeCheckpoint,
    *,
    dtype: torch.dtype,
    device: torch.device | None = None,
    dropout: Dropout | None = None,
) -> Transformer:
    """The model with its blocks' linear layers in 4 bits (NF4), each packed as soon as it is read; they compute in
    ``dtype``, in which all other weights are.

    Raises:
        UsageError: the library that packs is not installed.
    """
    with torch.device("meta"):
        model = Transformer(checkpoint.params, tied=checkpoint.tied, dropout=dropout)
    rest = {}
    for name, tensor in checkpoint.state.items():
        place, _, key = (module := name.removesuffix(".weight")).rpartition(".")
        if name.startswith("layers.") and isinstance(model.get_submodule(module), nn.Linear):
            setattr(model.get_submodule(place), key, NF4Linear(tensor.to(device=device, dtype=dtype), dtype))
        else:
            rest[name] = tensor.to(device=device, dtype=dtype, copy=True)
    model.load_state_dict(rest, assign=True)
    return model


def open_native(folder: Path, weights: Path | None = None, params_file: Path | None = None) -> Source:
    """A native checkpoint for conversion: nothing but its index is read. ``weights`` and ``params_file`` name files
    that lie elsewhere.

    Raises:
        UsageError: a file is missing.
        CallamaError: params and tensors disagree, naming the first tensor at fault, or a file was changed.
    """
    asked_by = params_file or _native_folder(folder, weights) / PARAMS
    params, folder = read_params(asked_by, weights), _native_folder(folder, weights)
    path = weights or folder / WEIGHTS
    tensors = open_pth(path)
    tensors.pop(_ROPE_CONSTANT, None)
    check_state(path, tensors, params, str(asked_by))
    require_as_written(asked_by / PARAMS if asked_by.is_dir() else asked_by)
    return Source("native checkpoint", folder, params, tensors, find_tokenizer(folder), read_manifest(folder))


def own_facts(params: ModelParams) -> dict[str, Any]:
    """What a manifest says of a model's shape because params.json cannot."""
    known: dict[str, Any] = {"max_seq_len": params.max_seq_len}
    if params.use_scaled_rope:
        known["rope_scale_factor"] = params.rope_scale_factor
    return known


def write_native(
    folder: Path,
    params: ModelParams,
    state: Mapping[str, Tensor] | Mapping[str, Lazy],
    tokenizer: Path | Mapping[str, Any] | None,
    facts: Mapping[str, Any],
) -> None:
    """Writes a native checkpoint, whole or not at all."""
    checksums: dict[str, Checksums] = {}
    facts = {"kind": "native checkpoint", **own_facts(params), **facts}
    with atomic_folder(folder, facts, checksums) as temporary:
        checksums |= write_model(temporary, params, state, tokenizer)


def write_model(
    folder: Path,
    params: ModelParams,
    state: Mapping[str, Tensor] | Mapping[str, Lazy],
    tokenizer: Path | Mapping[str, Any] | None,
) -> dict[str, Checksums]:
    """Writes the files of a native checkpoint into a folder that exists; returns the checksums of the weights."""
    tensors = {name: t if isinstance(t, Lazy) else of_tensor(t) for name, t in state.items()}
    with Meter("writing", sum(tensor.nbytes for tensor in tensors.values()), "bytes") as meter:
        write_json(folder / PARAMS, params.to_meta())
        found = save_pth(folder / WEIGHTS, tensors, meter.advance)
        copy_tokenizer(tokenizer, folder)
        check_files(tensors.values())
    return {WEIGHTS: found}


def copy_tokenizer(tokenizer: Path | Mapping[str, Any] | None, folder: Path) -> None:
    """Puts a tokenizer's file, as it is, into a folder."""
    if isinstance(tokenizer, Path):
        shutil.copyfile(tokenizer, folder / tokenizer.name)
    elif tokenizer is not None:
        write_json(folder / TOKENIZER_JSON, tokenizer)
