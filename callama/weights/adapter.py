"""LoRA adapters on disk, in PEFT's layout, readable by ``peft`` as they are.

Hugging Face keeps q and k in half-rotated order where Meta interleaves, so the rows of their
``lora_B`` are permuted on the way out and back; ``lora_A`` is the same in both. The original
project's ``lora.json`` is read too, with the state dict beside it as one file or as the folder that
DeepSpeed's ``zero_to_fp32.py`` writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import MANIFEST, read_manifest, require_file, write_json
from callama.model.lora import LoRALinear, LoRAParams, add_lora, lora_modules
from callama.model.params import ModelParams
from callama.model.transformer import Transformer
from callama.weights.adapter_config import (
    CONFIG,
    ORIGINAL_CONFIG,
    AdapterConfig,
    all_modules,
    module_name,
    peft_module,
    read_config,
    read_original_config,
    read_peft_config,
)
from callama.weights.lazy import Lazy, held_by, of_tensor, permute_rows, unpermute_rows
from callama.weights.names import HF_LINEAR, head_count
from callama.weights.pth import open_pth
from callama.weights.safe import INDEX_SUFFIX, open_safetensors, open_sharded, save_safetensors
from callama.weights.seal import require_as_written

WEIGHTS, OLDER_WEIGHTS, LATEST = "adapter_model.safetensors", "adapter_model.bin", "latest"
_MODULES = {peft_module(module).partition(".0.")[2]: module.split(".")[-1] for module in all_modules(1)}
_KEY = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(\w+\.\w+)\.(lora_[AB]\.weight|lora_magnitude_vector)")
_STATE_KEY = re.compile(r"(layers\.\d+\.\w+\.w[qkvo123])\.lora_([ABab])")
# deepspeed/utils/zero_to_fp32.py writes one of these, whole or sharded, into the folder it is given.
_STATES_OF_RANK = "*mp_rank_*_model_states.pt"
_CONSOLIDATED = (("pytorch_model", ".bin", open_pth), ("model", ".safetensors", open_safetensors))


@dataclass(frozen=True)
class Adapter:
    """``factors`` maps a layer (``layers.0.attention.wq``) to its fp32 A (rank, in) and B (out, rank), and
    with DoRA ``magnitudes`` maps it to the lengths (out,) of its weight's rows. ``rest`` is what else a state dict
    held: the base's own tensors, or trained ones, which are no adapter."""

    lora: LoRAParams
    factors: dict[str, tuple[Tensor, Tensor]]
    magnitudes: dict[str, Tensor] = field(default_factory=dict)
    rest: dict[str, Lazy] = field(default_factory=dict)

    def cast(self, dtype: torch.dtype) -> Adapter:
        """The same, rounded.

        Raises:
            CallamaError: the type cannot hold a number.
        """
        factors = {
            name: (held_by(a.to(dtype), f"{name}.lora_A"), held_by(b.to(dtype), f"{name}.lora_B"))
            for name, (a, b) in self.factors.items()
        }
        magnitudes = {name: held_by(m.to(dtype), f"{name}.magnitude") for name, m in self.magnitudes.items()}
        return replace(self, factors=factors, magnitudes=magnitudes)


def adapter_of(model: Transformer, lora: LoRAParams) -> Adapter:
    """The adapter in a model that ``add_lora`` has wrapped; tensors are shared, not copied."""
    factors = {name: (m.lora_a.detach(), m.lora_b.detach()) for name, m in lora_modules(model)}
    magnitudes = {name: m.magnitude.detach() for name, m in lora_modules(model) if m.magnitude is not None}
    return Adapter(lora, factors, magnitudes)


def save_adapter(folder: Path, adapter: Adapter, params: ModelParams, base: str) -> None:
    """Writes the two files of PEFT's layout into a folder that exists; ``base`` names the base model."""
    lora, tensors = adapter.lora, {}
    for module, (a, b) in adapter.factors.items():
        name = module.split(".")[-1]
        heads = head_count(name, params)
        b = permute_rows(b, heads) if heads else b
        key = f"base_model.model.{peft_module(module)}"
        tensors[f"{key}.lora_A.weight"] = a.cpu().contiguous()
        tensors[f"{key}.lora_B.weight"] = b.cpu().contiguous()
        if (magnitude := adapter.magnitudes.get(module)) is not None:
            magnitude = permute_rows(magnitude[:, None], heads)[:, 0] if heads else magnitude
            tensors[f"{key}.lora_magnitude_vector"] = magnitude.cpu().contiguous()
    alpha = lora.alpha
    every = set(adapter.factors) == set(all_modules(params.n_layers, lora.layers))
    targets = [HF_LINEAR[n] for n in lora.layers] if every else [peft_module(module) for module in adapter.factors]
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": lora.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha, "lora_dropout": lora.dropout,
        "target_modules": targets, "bias": "none", "fan_in_fan_out": False,
        "inference_mode": True, "modules_to_save": None, "use_rslora": lora.rslora, "use_dora": lora.dora,
    }  # fmt: skip
    write_json(folder / CONFIG, config)
    save_safetensors(folder / WEIGHTS, {key: of_tensor(tensor) for key, tensor in tensors.items()})


def find_adapter(path: Path) -> Path:
    """The adapter (or, after full fine-tuning, the model) that ``path`` means: itself, or the newest
    checkpoint of a training job's folder.

    Raises:
        UsageError: the job's folder says what cannot be a checkpoint's name.
    """
    if (path / LATEST).is_file():
        name = (path / LATEST).read_text(encoding="utf-8", errors="replace").strip()
        if "\0" in name:
            raise UsageError(f"{path / LATEST} names no folder, found {short(name)}; write a checkpoint's name into it")
        return path / name
    return path


def settings_folder(path: Path) -> Path:
    """Where the settings of the adapter at ``path``, and its base's params.json, are looked for: its own folder, or,
    of a folder that ``zero_to_fp32.py`` writes, the one around it."""
    if not path.is_dir():
        return path.parent
    own = any((path / name).is_file() for name in (CONFIG, ORIGINAL_CONFIG))
    return path if own or _consolidated(path) is None else path.parent


def is_adapter(path: Path) -> bool:
    """Whether this is an adapter in any layout that ``read_adapter`` knows, or a job's folder with one."""
    if path.is_dir():
        folder = find_adapter(path)
        if any((folder / name).is_file() for name in (CONFIG, ORIGINAL_CONFIG)):
            return True
        model = (folder / "config.json").is_file()
        return not model and (folder.parent / ORIGINAL_CONFIG).is_file() and _consolidated(folder) is not None
    return path.is_file() and path.suffix != ".gguf" and (path.parent / ORIGINAL_CONFIG).is_file()


def base_name(path: Path) -> str:
    """What an adapter says that it was trained on; empty where it does not say."""
    if not (path / CONFIG).is_file():
        return ""
    return str(read_config(path / CONFIG, "PEFT's adapter configuration").get("base_model_name_or_path") or "")


def read_adapter(path: Path, params: ModelParams, config_dir: Path | None = None) -> Adapter:
    """Reads a PEFT folder, or a state dict (a file, the folder of the only one, or DeepSpeed's folder)
    with the original's ``lora.json`` beside it, in it, or in ``config_dir``.

    Raises:
        UsageError: a file is missing. CallamaError: a file is damaged or was changed, or the adapter
        does not fit a model of this shape.
    """
    if path.is_dir() and not (path / CONFIG).is_file() and any(path.glob(_STATES_OF_RANK)):
        raise UsageError(
            f"{path} is a checkpoint of DeepSpeed, its adapter in parts: put it together with "
            f"callama consolidate {path} OUT, and name OUT"
        )
    if path.is_dir() and (path / CONFIG).is_file():
        adapter = _read_peft(path, params)
        require_as_written(path / CONFIG, path / WEIGHTS)
    elif path.is_file():
        adapter = adapter_of_state(path, open_pth(path), config_dir or path.parent, params)
    elif (state := _consolidated(path)) is not None:
        adapter = adapter_of_state(path, state, config_dir or settings_folder(path), params)
    elif (path / "consolidated.pth").is_file():
        raise UsageError(f"{path} is a whole model, as full fine-tuning leaves it; use it where a model is wanted")
    elif path.is_dir() and (files := sorted(f for f in path.iterdir() if f.suffix in (".pt", ".pth"))):
        if len(files) > 1:
            raise UsageError(f"{path} holds {len(files)} state dicts; name one, such as {files[0]}")
        return read_adapter(files[0], params, config_dir)
    else:
        raise UsageError(
            f"{path} is neither an adapter folder ({CONFIG}, {WEIGHTS}) nor an adapter file (.pt, with "
            f"{ORIGINAL_CONFIG} beside it)"
        )
    return adapter


def adapter_of_state(path: Path, state: Mapping[str, Lazy], config_dir: Path, params: ModelParams) -> Adapter:
    """The adapter in a state dict with our names, read from ``path``; ``lora.json`` lies in ``config_dir``.

    Raises:
        CallamaError: it does not fit a model of this shape, has no LoRA weights, or a file was changed.
    """
    what = f"the LoRA settings that {path.name} was trained with"
    config = read_original_config(config_dir / ORIGINAL_CONFIG, what, params.n_layers)
    halves: dict[str, dict[str, Tensor]] = {}
    rest = {}
    for key, tensor in state.items():
        if match := _STATE_KEY.fullmatch(key.removeprefix("module.")):
            halves.setdefault(match[1], {})[match[2].upper()] = _single(tensor.whole(), f"{path}: {key}")
        elif "lora_" in key:
            raise CallamaError(f"{path}: {key} is not a LoRA factor of a linear layer of Llama")
        else:
            rest[key.removeprefix("module.")] = tensor
    adapter = Adapter(config.lora, _pairs(halves, path), rest=rest)
    require_as_written(config.path, *{file.path for tensor in state.values() for file in tensor.files})
    return _checked(path, adapter, config, params)


def no_factor(path: Path, name: str, what: str) -> CallamaError:
    """The error of a trained tensor beside an adapter's factors; ``what`` says what is wrong with it."""
    return CallamaError(
        f"{path} holds {name} besides LoRA factors, {what}. If it was trained, put it into the base's file and take it "
        "out of this one; if not, only take it out"
    )


def require_factors_only(path: Path, adapter: Adapter) -> None:
    """Makes sure that an adapter from ``path`` loses nothing where there is no base to hold the rest against.

    Raises:
        CallamaError: the file held other tensors than factors.
    """
    if name := next(iter(adapter.rest), None):
        raise no_factor(path, name, "which no adapter folder can hold")


def adapter_facts(path: Path, config_dir: Path | None = None) -> dict[str, Any]:
    """What callama's manifest says of an adapter: the one in its folder; of a state dict, or of the folder that
    ``zero_to_fp32.py`` writes, the one beside it or its settings. Empty where there is none."""
    if path.is_dir() and any((path / name).is_file() for name in (CONFIG, MANIFEST)):
        return read_manifest(path)
    beside = (folder for folder in (config_dir, path.parent) if folder is not None)
    return next((facts for folder in beside if (facts := read_manifest(find_adapter(folder)))), {})


def _checked(path: Path, adapter: Adapter, config: AdapterConfig, params: ModelParams) -> Adapter:
    """The same, after holding it against the model's shape and the layers that its settings name."""
    if not adapter.factors:
        raise CallamaError(f"{path} holds no LoRA weights")
    _check_fit(path, adapter, params)
    for module in sorted(set(adapter.factors) ^ config.modules):
        if module in config.modules:
            what = f"lacks the factors of {module}, which {config.path} names: is the copy complete?"
        else:
            what = f"holds factors of {module}, which {config.path} does not name: are the two files of one adapter?"
        raise CallamaError(f"{path} {what}")
    return adapter


def _consolidated(path: Path) -> dict[str, Lazy] | None:
    for stem, suffix, open_one in _CONSOLIDATED:
        if any((path / f"{stem}{suffix}{more}").is_file() for more in ("", INDEX_SUFFIX)):
            return open_sharded(path, stem, suffix, open_one)
    return None


def _read_peft(folder: Path, params: ModelParams) -> Adapter:
    config = read_peft_config(folder / CONFIG, params.n_layers)
    older = not (folder / WEIGHTS).is_file() and (folder / OLDER_WEIGHTS).is_file()
    weights = folder / (OLDER_WEIGHTS if older else WEIGHTS)
    require_file(weights, "the adapter's weights")
    found: dict[str, dict[str, Tensor]] = {}
    for key, lazy in (open_pth if older else open_safetensors)(weights).items():
        match = _KEY.fullmatch(key)
        if match is None or match[2] not in _MODULES:
            raise CallamaError(f"{weights}: tensor {key!r} is not a LoRA factor of Llama")
        name, tensor = _MODULES[match[2]], lazy.whole()
        part = "A" if match[3] == "lora_A.weight" else "B" if match[3] == "lora_B.weight" else "magnitude"
        heads = head_count(name, params) if part != "A" else None
        if heads and tensor.ndim and tensor.shape[0] == heads * params.head_dim:
            tensor = unpermute_rows(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None], heads).view(tensor.shape)
        found.setdefault(module_name(match[1], name), {})[part] = _single(tensor, f"{weights}: {key}")
    magnitudes = {module: parts.pop("magnitude") for module, parts in found.items() if "magnitude" in parts}
    adapter = Adapter(config.lora, _pairs(found, weights), magnitudes)
    if set(magnitudes) != (set(adapter.factors) if (dora := config.lora.dora) else set()):
        raise CallamaError(f"{weights}: use_dora is {dora} in {CONFIG}, which the tensors contradict")
    return _checked(folder, adapter, config, params)


def _single(factor: Tensor, name: str) -> Tensor:
    return held_by(factor.float(), name, "an adapter from before its training broke")


def _pairs(halves: dict[str, dict[str, Tensor]], path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    for module, half in halves.items():
        if set(half) != {"A", "B"}:
            has = f"only lora_{next(iter(half))}" if half else "neither"
            raise CallamaError(f"{path}: {module} has {has}; both A and B are needed")
    return {module: (half["A"], half["B"]) for module, half in halves.items()}


def _check_fit(path: Path, adapter: Adapter, params: ModelParams) -> None:
    with torch.device("meta"):
        model = add_lora(Transformer(params, tied=True), LoRAParams(adapter.lora.rank, adapter.lora.scaling))
    expected = {n: (tuple(m.lora_a.shape), tuple(m.lora_b.shape)) for n, m in lora_modules(model)}
    for module, (a, b) in adapter.factors.items():
        if module not in expected:
            raise CallamaError(f"{path}: {module} does not exist in a model of {params.n_layers} layers; another base?")
        if (found := (tuple(a.shape), tuple(b.shape))) != expected[module]:
            raise CallamaError(
                f"{path}: {module} has A, B of {found}, this base needs {expected[module]}; another base?"
            )
    for module, magnitude in adapter.magnitudes.items():
        if magnitude.shape != (rows := expected[module][1][:1]):
            raise CallamaError(f"{path}: {module} has a magnitude of {tuple(magnitude.shape)}, this base needs {rows}")


def load_adapter(model: Transformer, adapter: Adapter) -> None:
    """Copies an adapter's factors into a model freshly wrapped with the same ``LoRAParams``; a layer without factors
    stays as it is, where the update is zero."""
    modules: dict[str, LoRALinear] = dict(lora_modules(model))
    assert set(modules) >= set(adapter.factors), "the adapter has layers at which the model is not wrapped"
    with torch.no_grad():
        for name, (a, b) in adapter.factors.items():
            modules[name].lora_a.copy_(a)
            modules[name].lora_b.copy_(b)
        for name, magnitude in adapter.magnitudes.items():
            modules[name].magnitude.copy_(magnitude)  # type: ignore[union-attr]
