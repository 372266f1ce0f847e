"""Base plus adapter, once, in fp32: the merged checkpoint that engines without LoRA can load."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest
from callama.common.progress import Meter
from callama.text.tokenizer import TOKENIZER_FILES
from callama.weights.adapter import Adapter, find_adapter, read_adapter
from callama.weights.native import DTYPES, WEIGHTS, NativeCheckpoint, read_native, write_native


def merged_tensor(weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """``weight + scaling · b a``, computed in fp32, returned in fp32 (out, in)."""
    return weight.float().addmm(b.float(), a.float(), alpha=scaling)


def merge(base: NativeCheckpoint, adapter: Adapter, dtype: str | None = None) -> dict[str, Tensor]:
    """The merged state dict; tensors keep the base's dtype unless another is named."""
    state = {}
    with Meter("merging", len(base.state), "tensors") as meter:
        for name, tensor in base.state.items():
            target = DTYPES[dtype] if dtype else tensor.dtype
            factors = adapter.factors.get(name.removesuffix(".weight"))
            merged = merged_tensor(tensor, *factors, adapter.lora.scaling) if factors else tensor
            state[name] = merged.to(target)
            meter.advance()
    return state


def merge_to_folder(
    base_dir: Path,
    adapter_path: Path,
    out: Path,
    *,
    base_weights: Path | None = None,
    config_dir: Path | None = None,
    dtype: str | None = None,
) -> None:
    """Writes ``out``, a native checkpoint, from a base and an adapter in either layout.

    Raises:
        UsageError: a file is missing, or ``out`` is the base or the adapter itself.
        CallamaError: the adapter was trained on another base.
    """
    adapter_path = find_adapter(adapter_path)
    if config_dir is not None and not config_dir.is_dir():
        raise UsageError(f"{config_dir} is not a folder; expected the one with the adapter's lora.json")
    if out.resolve() in (base_dir.resolve(), adapter_path.resolve()):
        raise UsageError(f"{out} is also a source of this merge; choose another folder")
    base = read_native(base_dir, base_weights)
    adapter = read_adapter(adapter_path, base.params, config_dir)
    trained_on = read_manifest(adapter_path).get("base_sha256") if adapter_path.is_dir() else None
    facts = read_manifest(base_dir)
    found = facts.get("files", {}).get((base_weights or base_dir / WEIGHTS).name, {}).get("sha256")
    if trained_on and found and trained_on != found:
        raise CallamaError(f"{adapter_path} was trained on weights {trained_on[:12]}…, {base_dir} has {found[:12]}…")
    tokenizer = next((base_dir / n for n in TOKENIZER_FILES if (base_dir / n).is_file()), None)
    sources = {
        "source": base_dir.name,
        "adapter": adapter_path.name,
        "dtype": dtype or facts.get("dtype", "as in base"),
    }
    write_native(out, base.params, merge(base, adapter, dtype), tokenizer, sources)
