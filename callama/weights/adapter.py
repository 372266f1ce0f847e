"""LoRA adapters on disk, in PEFT's layout, readable by ``peft`` and vLLM as they are.

Hugging Face keeps q and k in half-rotated order where Meta interleaves, so the rows of their
``lora_B`` are permuted on the way out and back; ``lora_A`` is the same in both. The original
project's ``lora.json`` beside a ``.pt`` is read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_json, require_file, write_json
from callama.model.lora import ALL_LINEAR, QV_ONLY, LoRALinear, LoRAParams, add_lora, lora_modules
from callama.model.params import ModelParams
from callama.model.transformer import Transformer
from callama.weights.native import load_tensors

CONFIG, WEIGHTS, ORIGINAL_CONFIG = "adapter_config.json", "adapter_model.safetensors", "lora.json"
LATEST = "latest"
_HF_NAMES = {
    "wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "wo": "o_proj",
    "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj",
}  # fmt: skip
_META_NAMES = {hf: meta for meta, hf in _HF_NAMES.items()}
_KEY = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.weight")
_ORIGINAL_KEY = re.compile(r"(layers\.\d+\.\w+\.w[qkvo123])\.lora_([AB])")


@dataclass(frozen=True)
class Adapter:
    """``factors`` maps a layer (``layers.0.attention.wq``) to its fp32 A (rank, in) and B (out, rank)."""

    lora: LoRAParams
    factors: dict[str, tuple[Tensor, Tensor]]


def _module_of(name: str) -> str:
    return "attention" if name in ("wq", "wk", "wv", "wo") else "feed_forward"


def permute_rows(rows: Tensor, n_heads: int) -> Tensor:
    """Meta's interleaved rows (out, …) to Hugging Face's half-rotated order
    (transformers, ``convert_llama_weights_to_hf.py``)."""
    return rows.view(n_heads, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def unpermute_rows(rows: Tensor, n_heads: int) -> Tensor:
    """The inverse of ``permute_rows``."""
    return rows.view(n_heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _heads(name: str, params: ModelParams) -> int | None:
    return {"wq": params.n_heads, "wk": params.kv_heads}.get(name)


def adapter_of(model: Transformer, lora: LoRAParams) -> Adapter:
    """The adapter in a model that ``add_lora`` has wrapped; tensors are shared, not copied."""
    factors = {name: (m.lora_a.detach(), m.lora_b.detach()) for name, m in lora_modules(model)}
    return Adapter(lora, factors)


def save_adapter(folder: Path, adapter: Adapter, params: ModelParams, base: str) -> None:
    """Writes the two files of PEFT's layout into a folder that exists; ``base`` names the base model."""
    lora, tensors = adapter.lora, {}
    for module, (a, b) in adapter.factors.items():
        _, layer, _, name = module.split(".")
        heads = _heads(name, params)
        b = permute_rows(b, heads) if heads else b
        block = "self_attn" if _module_of(name) == "attention" else "mlp"
        key = f"base_model.model.model.layers.{layer}.{block}.{_HF_NAMES[name]}"
        tensors[f"{key}.lora_A.weight"] = a.cpu().contiguous()
        tensors[f"{key}.lora_B.weight"] = b.cpu().contiguous()
    alpha = lora.scaling * lora.rank
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": lora.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha, "lora_dropout": lora.dropout,
        "target_modules": [_HF_NAMES[n] for n in lora.layers], "bias": "none", "fan_in_fan_out": False,
        "inference_mode": True, "modules_to_save": None, "use_rslora": False, "use_dora": False,
    }  # fmt: skip
    write_json(folder / CONFIG, config)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def find_adapter(path: Path) -> Path:
    """The adapter that ``path`` means: itself, or the newest checkpoint of a training job's folder."""
    if (path / LATEST).is_file():
        return path / (path / LATEST).read_text(encoding="utf-8").strip()
    return path


def read_adapter(path: Path, params: ModelParams, config_dir: Path | None = None) -> Adapter:
    """Reads a PEFT folder, or the original's state dict with ``lora.json`` beside it or in ``config_dir``.

    Raises:
        UsageError: a file is missing. CallamaError: a file is damaged, or the adapter does not fit
        a model of this shape.
    """
    if path.is_dir() and (path / CONFIG).is_file():
        adapter = _read_peft(path, params)
    elif path.is_file():
        adapter = _read_original(path, config_dir or path.parent)
    else:
        raise UsageError(f"{path} is neither an adapter folder ({CONFIG}, {WEIGHTS}) nor an adapter file")
    if not adapter.factors:
        raise CallamaError(f"{path} holds no LoRA weights")
    _check_fit(path, adapter, params)
    return adapter


def _read_config(path: Path, what: str) -> dict[str, Any]:
    config = read_json(path, what)
    if not isinstance(config, dict):
        raise CallamaError(f"{path} must be a JSON object; expected {what}")
    return config


def _get(config: Mapping[str, Any], key: str, kind: type | tuple[type, ...], path: Path) -> Any:
    if not isinstance(config.get(key), kind):
        raise CallamaError(f"{path}: key {key!r} is missing or of the wrong type, found {config.get(key)!r}")
    return config[key]


def _get_rank(config: Mapping[str, Any], key: str, path: Path) -> int:
    if (rank := _get(config, key, int, path)) <= 0:
        raise CallamaError(f"{path}: {key} must be above zero, found {rank}")
    return int(rank)


def _read_peft(folder: Path, params: ModelParams) -> Adapter:
    path = folder / CONFIG
    config = _read_config(path, "PEFT's adapter configuration")
    for key in ("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern"):
        if config.get(key):
            raise CallamaError(f"{path}: {key} is set; only plain LoRA is read")
    rank, targets = _get_rank(config, "r", path), _get(config, "target_modules", list, path)
    if unknown := [t for t in targets if t not in _META_NAMES]:
        raise CallamaError(f"{path}: target module {unknown[0]!r} is not a linear layer of Llama")
    lora = LoRAParams(
        rank,
        _get(config, "lora_alpha", (int, float), path) / rank,
        float(config.get("lora_dropout") or 0.0),
        tuple(name for name in ALL_LINEAR if _HF_NAMES[name] in targets),
    )
    require_file(folder / WEIGHTS, "the adapter's weights")
    try:
        tensors = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise CallamaError(f"{folder / WEIGHTS} is damaged ({error})") from None
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or match[2] not in _META_NAMES:
            raise CallamaError(f"{folder / WEIGHTS}: tensor {key!r} is not a LoRA factor of Llama")
        name = _META_NAMES[match[2]]
        heads = _heads(name, params) if match[3] == "B" else None
        if heads and tensor.shape[0] == heads * params.head_dim:
            tensor = unpermute_rows(tensor, heads)
        halves.setdefault(f"layers.{match[1]}.{_module_of(name)}.{name}", {})[match[3]] = tensor.float()
    return Adapter(lora, _pairs(halves, folder / WEIGHTS))


def _read_original(path: Path, config_dir: Path) -> Adapter:
    config_path = config_dir / ORIGINAL_CONFIG
    config = _read_config(config_path, f"the LoRA settings that {path.name} was trained with")
    if config.get("train_embedding"):
        raise CallamaError(f"{config_path}: adapters of the embedding (train_embedding) cannot be merged")
    layers = QV_ONLY if config.get("train_qv_only") else ALL_LINEAR
    rank = _get_rank(config, "lora_rank", config_path)
    lora = LoRAParams(rank, float(_get(config, "lora_scaling", (int, float), config_path)), 0.0, layers)
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_tensors(path).items():
        if match := _ORIGINAL_KEY.fullmatch(key.removeprefix("module.")):
            halves.setdefault(match[1], {})[match[2]] = tensor.float()
        elif "lora_" in key:
            raise CallamaError(f"{path}: {key} is not a LoRA factor of a linear layer of Llama")
    return Adapter(lora, _pairs(halves, path))


def _pairs(halves: dict[str, dict[str, Tensor]], path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    for module, half in halves.items():
        if set(half) != {"A", "B"}:
            raise CallamaError(f"{path}: {module} has only lora_{next(iter(half))}; both A and B are needed")
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


def load_adapter(model: Transformer, adapter: Adapter) -> None:
    """Copies an adapter's factors into a model wrapped with the same ``LoRAParams``."""
    modules: dict[str, LoRALinear] = dict(lora_modules(model))
    assert set(modules) == set(adapter.factors), "the model is wrapped at other layers than the adapter"
    with torch.no_grad():
        for name, (a, b) in adapter.factors.items():
            modules[name].lora_a.copy_(a)
            modules[name].lora_b.copy_(b)
