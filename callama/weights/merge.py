"""Base plus adapter, once, in fp32: the merged checkpoint that engines without LoRA can load.

Nothing is written before the merge's error is known: what rounding the merged weights changes in
the model's logits is measured on a probe set, and too much of it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import MANIFEST, name_of, read_manifest, require_replaceable
from callama.common.places import require_apart
from callama.weights.adapter import Adapter, adapter_facts, find_adapter, no_factor, read_adapter, settings_folder
from callama.weights.adapter_config import ORIGINAL_CONFIG
from callama.weights.budget import MergeError, measure
from callama.weights.lazy import Lazy, cast, in_range, same_numbers
from callama.weights.native import PARAMS, WEIGHTS, open_native, read_params, write_native
from callama.weights.seal import require_as_written
from callama.weights.source import DTYPES, Source, dtype_word

MAX_CHANGED = 0.05


def merged_rows(weight: Tensor, a: Tensor, b: Tensor, scaling: float, magnitude: Tensor | None) -> Tensor:
    """``weight + scaling · b a`` for rows (n, in) of a weight and of b, computed in fp32, in fp32; with DoRA
    each row is brought to the length that ``magnitude`` (n,) says."""
    rows: Tensor = weight.float().addmm(b.float(), a.float(), alpha=scaling)
    if magnitude is None:
        return rows
    return rows.mul_((magnitude.float() / torch.linalg.vector_norm(rows, dim=1))[:, None])


def merged(base: Mapping[str, Lazy], adapter: Adapter, dtype: str | None = None) -> dict[str, Lazy]:
    """The merged state dict, computed when it is read; tensors keep the base's dtype unless another is named."""
    return {name: _merged_tensor(name, tensor, adapter, dtype) for name, tensor in base.items()}


def _merged_tensor(name: str, tensor: Lazy, adapter: Adapter, dtype: str | None) -> Lazy:
    target = DTYPES[dtype] if dtype else tensor.dtype
    layer = name.removesuffix(".weight")
    factors, lengths = adapter.factors.get(layer), adapter.magnitudes.get(layer)

    def read(start: int, stop: int) -> Tensor:
        rows = tensor.read(start, stop)
        if factors is not None:
            a, b = factors
            wanted = None if lengths is None else lengths[start:stop]
            rows = merged_rows(rows, a, b[start:stop], adapter.lora.scaling, wanted)
        return rows.to(target)

    return replace(tensor, dtype=target, read=read)


def merge_to_folder(
    base_dir: Path,
    adapter_path: Path,
    out: Path,
    *,
    base_weights: Path | None = None,
    config_dir: Path | None = None,
    dtype: str | None = None,
    max_changed: float = MAX_CHANGED,
) -> dict[str, MergeError]:
    """Writes ``out``, a native checkpoint, from a base and an adapter in any layout; returns the
    error of the merge for each dtype it could be written in.

    Raises:
        UsageError: a file is missing, or ``out`` is the base or the adapter itself.
        CallamaError: the adapter was trained on another base, as far as is known, or rounding changes more than
            ``max_changed`` of the greedy tokens of the probe set.
    """
    sources = [adapter_path, find_adapter(adapter_path)]
    sources += [base_dir, find_adapter(base_dir)] if base_weights is None else [base_weights]
    sources += [] if config_dir is None else [config_dir / ORIGINAL_CONFIG]
    adapter_path = sources[1]
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(f"{config_dir} is not a folder; expected the one with the adapter's lora.json")
    require_apart(out, *sources, what="a source of this merge")
    require_replaceable(out)
    # The original's way: its script takes the model's shape from there too.
    elsewhere = base_weights is not None and config_dir is not None and not (base_dir / PARAMS).is_file()
    base = open_native(base_dir, base_weights, config_dir / PARAMS if elsewhere and config_dir else None)
    adapter = read_adapter(adapter_path, base.params, config_dir)
    known = adapter_facts(adapter_path, config_dir)
    check_base(base, adapter_path, adapter, known, base_weights)
    _check_shape(base, config_dir, adapter_path)
    if (target := dtype or dtype_word(base.tensors)) not in DTYPES:
        raise UsageError(f"{base.path} is {target}; name what the merged weights shall be: --dtype {', '.join(DTYPES)}")
    variants = {name: merged(base.tensors, adapter, name) for name in DTYPES}
    # What is written: without ``dtype`` every tensor keeps its own, which may not be the others'.
    variants[target] = merged(base.tensors, adapter, dtype)
    errors = measure(base, adapter, variants)
    found = errors[target]
    if not math.isfinite(found.mean_logit):
        raise CallamaError(
            f"{base.path} merged with {adapter_path} into {target} computes NaN or infinite logits: numbers are too "
            "large for it; nothing was written. Take callama merge with --dtype fp32, or an adapter from before its "
            "training broke"
        )
    if found.changed_tokens > max_changed:
        raise CallamaError(
            f"merging into {target} changes {found.changed_tokens:.1%} of the greedy tokens on the probe set (at most "
            f"{max_changed:.1%} is allowed; |Δlogit| max {found.max_logit:.3g}, mean {found.mean_logit:.3g}); nothing "
            "was written. Take callama merge with --dtype fp32, or allow it with --max-changed"
        )
    facts: dict[str, Any] = {
        **base.origin(), "adapter": name_of(adapter_path), "dtype": target,
        **{key: known[key] for key in ("dialect",) if key in known},
        # None: a type that cannot hold these weights; JSON has no infinity.
        "merge_error": {n: e._asdict() if math.isfinite(e.mean_logit) else None for n, e in errors.items()},
    }  # fmt: skip
    written = {name: in_range(tensor, name) for name, tensor in merged(base.tensors, adapter, dtype).items()}
    write_native(out, base.params, written, base.tokenizer, facts)
    return errors


def _check_shape(base: Source, config_dir: Path | None, adapter_path: Path) -> None:
    """Makes sure that a params.json beside the adapter, often the only word on its base, is the base's.

    Raises:
        CallamaError: it describes another model.
    """
    folder = adapter_path if adapter_path.is_dir() else adapter_path.parent
    for place in (config_dir, folder, settings_folder(adapter_path)):
        if place is None or not (file := place / PARAMS).is_file():
            continue
        require_as_written(file)
        wanted, found = (params.arithmetic() for params in (read_params(file), base.params))
        for key in found:
            if wanted[key] != found[key]:
                raise CallamaError(
                    f"{file} tells of a base with {key} {wanted[key]}, {base.path} has {found[key]}: the adapter was "
                    "trained on another model; name that one, or take this params.json away if it is not the adapter's"
                )


def check_base(
    base: Source, adapter_path: Path, adapter: Adapter, facts: Mapping[str, Any], weights: Path | None = None
) -> None:
    """Makes sure that an adapter, of which ``facts`` are known, was trained on this base, as far as either says.
    ``weights`` names the base's state dict where it lies elsewhere.

    Raises:
        CallamaError: it was trained on other weights, or other tensors as well, or the base's manifest tells of another
            file.
    """
    path = weights or base.path / WEIGHTS
    files = read_manifest(path.parent).get("files")
    entry = files.get(path.name) if isinstance(files, Mapping) else None
    found = entry.get("sha256") if isinstance(entry, Mapping) else None
    if isinstance(entry, Mapping) and entry.get("bytes") != path.stat().st_size:
        raise CallamaError(f"{path} is not the file that {MANIFEST} beside it tells of")
    trained_on = facts.get("base_sha256")
    if isinstance(trained_on, str) and found and trained_on != found:
        raise CallamaError(
            f"{adapter_path} was trained on weights {trained_on[:12]}…, {path.parent} has {found[:12]}…: name the "
            "checkpoint that it was trained on (its manifest's base), or convert that again without --dtype"
        )
    for name, tensor in adapter.rest.items():
        own = base.tensors.get(name)
        if own is None or not same_numbers(cast(tensor, torch.float64), cast(own, torch.float64)):
            raise no_factor(adapter_path, name, "which is not the base's: only factors are merged")
