"""The native checkpoint: a folder with Meta's ``params.json``, ``consolidated.pth`` and the tokenizer.

The state dict has Meta's names and is written in torch's zip format, so it is memory-mapped on
reading: a tensor costs memory only once it is touched. What Meta's params.json cannot say (context,
RoPE factor) stands in the folder's manifest.
"""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, read_json, read_manifest, require_file, write_json
from callama.model.params import ModelParams
from callama.model.transformer import Dropout, Transformer

PARAMS, WEIGHTS, OUTPUT = "params.json", "consolidated.pth", "output.weight"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
    require_file(path, "a state dict written by torch.save")
    if not zipfile.is_zipfile(path):
        raise CallamaError(
            f"{path} is not in torch's zip format: it is cut short, of another kind, or saved by torch before 1.6"
        )
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


def read_params(folder: Path) -> ModelParams:
    """The model's shape from ``params.json`` and, where there is one, the manifest.

    Raises:
        UsageError: no params.json. CallamaError: its content is not a Llama 3 shape.
    """
    path = folder / PARAMS
    raw = read_json(path, "Meta's params.json of a native checkpoint")
    facts = read_manifest(folder)
    if not isinstance(raw, Mapping):
        raise CallamaError(f"{path} must be a JSON object")
    try:
        params = ModelParams.from_meta(raw, max_seq_len=facts.get("max_seq_len"))
    except (TypeError, ValueError) as error:
        raise CallamaError(f"{path}: {error}") from None
    return replace(params, rope_scale_factor=facts.get("rope_scale_factor", params.rope_scale_factor))


def expected_shapes(params: ModelParams, *, tied: bool) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a checkpoint of this shape."""
    with torch.device("meta"):
        model = Transformer(params, tied=tied)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def read_native(folder: Path, weights: Path | None = None) -> NativeCheckpoint:
    """Opens a native checkpoint; ``weights`` names the state dict where it lies elsewhere.

    Raises:
        UsageError: a file is missing.
        CallamaError: params and tensors disagree, naming the first tensor at fault.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; expected a native checkpoint ({PARAMS}, {WEIGHTS})")
    params = read_params(folder)
    path = weights or folder / WEIGHTS
    state = load_tensors(path)
    state.pop("rope.freqs", None)  # a constant that Meta's older files carry along
    check_state(path, state, params, str(folder / PARAMS))
    return NativeCheckpoint(folder, params, state)


def check_state(path: Path, state: Mapping[str, Tensor], params: ModelParams, asked_by: str) -> None:
    """Makes sure that a state dict from ``path`` has the tensors and shapes that ``params`` ask for.

    Raises:
        CallamaError: naming the first tensor at fault; ``asked_by`` says where the shape comes from.
    """
    expected = expected_shapes(params, tied=OUTPUT not in state)
    for name in sorted(set(expected) ^ set(state)):
        what = "lacks" if name in expected else "has an unexpected"
        raise CallamaError(f"{path} {what} tensor {name} by the shape in {asked_by}")
    for name, shape in expected.items():
        if (found := tuple(state[name].shape)) != shape:
            raise CallamaError(f"{path}: {name} has shape {found}, but {asked_by} asks for {shape}")


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


def write_native(
    folder: Path,
    params: ModelParams,
    state: Mapping[str, Tensor],
    tokenizer_file: Path | None,
    facts: Mapping[str, Any],
) -> None:
    """Writes a native checkpoint, whole or not at all."""
    known = {"kind": "native checkpoint", "max_seq_len": params.max_seq_len}
    if params.use_scaled_rope:
        known["rope_scale_factor"] = params.rope_scale_factor
    with atomic_folder(folder, {**known, **facts}) as temporary:
        write_json(temporary / PARAMS, params.to_meta())
        save_tensors(dict(state), temporary / WEIGHTS)
        if tokenizer_file is not None:
            shutil.copyfile(tokenizer_file, temporary / tokenizer_file.name)
