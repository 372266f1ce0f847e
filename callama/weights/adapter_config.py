"""What an adapter's settings say: PEFT's ``adapter_config.json`` and the original project's ``lora.json``.

An adapter is read only where it is W + scaling · B A, or DoRA's form of it, on linear layers of the plain base. peft
adds kinds of adapters by adding keys, so a key that is not known here is refused unless it is empty. Which layers are
meant is found by peft's own rules (``peft/tuners/tuners_utils.py``, ``check_target_module_exists``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any

from callama.common.errors import CallamaError
from callama.common.files import read_json
from callama.model.lora import ALL_LINEAR, QV_ONLY, LoRAParams
from callama.weights.names import hf_name

CONFIG, ORIGINAL_CONFIG = "adapter_config.json", "lora.json"
MAX_RANK = 1 << 16  # no side of a Llama's matrix is as long
_MAX_NUMBER = 1e12
_READ = {
    "peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform",
    "use_rslora", "use_dora", "init_lora_weights",
}  # fmt: skip
# Notes, settings of training or of the machine, and what counts only beside another key that is refused.
_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version",
    "runtime_config", "megatron_core", "qalora_group_size", "ensure_weight_tying", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config",
}  # fmt: skip
_PLAIN: dict[str, tuple[object, ...]] = {"bias": ("none",), "layers_pattern": ("layers", ["layers"])}
# The beginnings that leave the base as it is; the others (pissa, olora, corda, loftq, lora_ga) subtract from it.
_PLAIN_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class AdapterConfig:
    """The settings in ``path``; ``modules`` are the layers that have factors, such as ``layers.0.attention.wq``."""

    path: Path
    lora: LoRAParams
    modules: frozenset[str]


def module_name(layer: int | str, name: str) -> str:
    """``wq`` of layer 0 as a native checkpoint calls it: ``layers.0.attention.wq``."""
    return f"layers.{layer}.{'attention' if name in ('wq', 'wk', 'wv', 'wo') else 'feed_forward'}.{name}"


def peft_module(module: str) -> str:
    """``layers.0.attention.wq`` as peft calls it: ``model.layers.0.self_attn.q_proj``."""
    return hf_name(f"{module}.weight").removesuffix(".weight")


def all_modules(n_layers: int, names: tuple[str, ...] = ALL_LINEAR) -> Iterator[str]:
    """The linear layers of these names in every block."""
    return (module_name(layer, name) for layer in range(n_layers) for name in names)


def read_config(path: Path, what: str) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        UsageError: the file is missing. CallamaError: it holds something else.
    """
    config = read_json(path, what)
    if not isinstance(config, dict):
        raise CallamaError(f"{path} must be a JSON object; expected {what}")
    return config


def read_original_config(path: Path, what: str, n_layers: int) -> AdapterConfig:
    """The original project's settings.

    Raises:
        UsageError: the file is missing. CallamaError: what it asks for cannot be kept.
    """
    config = read_config(path, what)
    if config.get("train_embedding"):
        raise CallamaError(f"{path}: adapters of the embedding (train_embedding) cannot be merged")
    names = QV_ONLY if config.get("train_qv_only", True) else ALL_LINEAR  # the default of the original's own code
    lora = LoRAParams(_rank(config, "lora_rank", path), _number(config, "lora_scaling", path), 0.0, names)
    return AdapterConfig(path, lora, frozenset(all_modules(n_layers, names)))


def read_peft_config(path: Path, n_layers: int) -> AdapterConfig:
    """peft's settings.

    Raises:
        UsageError: the file is missing.
        CallamaError: it is not of LoRA, rsLoRA or DoRA on the linear layers of the plain base.
    """
    config = read_config(path, "PEFT's adapter configuration")
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        raise CallamaError(f"{path}: peft_type is {short(kind)}; only 'LORA' is read")
    for key in sorted(set(config) - _READ - _WITHOUT_EFFECT):
        if (value := config[key]) and value not in _PLAIN.get(key, ()):
            raise CallamaError(
                f"{path}: {key} is set; only LoRA, rsLoRA and DoRA of one rank are read, found {short(value)}. If it "
                "changes nothing that the adapter computes, take it out"
            )
    if (beginning := config.get("init_lora_weights", True)) not in _PLAIN_BEGINNINGS:
        raise CallamaError(
            f"{path}: init_lora_weights is {short(beginning)}, which may change the base as well, so the adapter does "
            "not fit the plain base. Save it by peft's save_pretrained with path_initial_model_for_weight_conversion, "
            "which makes it a LoRA of the plain base"
        )
    rank, alpha = _rank(config, "r", path), _number(config, "lora_alpha", path)
    rslora, dora = (_get({key: config.get(key) or False}, key, bool, path) for key in ("use_rslora", "use_dora"))
    dropout = _number({"lora_dropout": config.get("lora_dropout") or 0.0}, "lora_dropout", path, 0, 1)
    modules = frozenset(_targets(config, path, n_layers))
    names = tuple(name for name in ALL_LINEAR if any(module.endswith(f".{name}") for module in modules))
    scaling = alpha / (math.sqrt(rank) if rslora else rank)
    return AdapterConfig(path, LoRAParams(rank, scaling, dropout, names, rslora, dora), modules)


def _targets(config: Mapping[str, Any], path: Path, n_layers: int) -> Iterator[str]:
    linear = {peft_module(module): module for module in all_modules(n_layers)}
    wanted = _get(config, "target_modules", (list, str), path)
    if wanted == "all-linear":
        wanted = ".*"
    excluded, layers = config.get("exclude_modules") or [], config.get("layers_to_transform")
    for one in wanted if isinstance(wanted, list) else ():
        if not isinstance(one, str) or not any(_matches([one], key, path) for key in linear):
            raise CallamaError(f"{path}: target module {short(one)} is not a linear layer of Llama")
    only = layers if isinstance(layers, list) else [] if layers is None else [layers]
    if not all(type(layer) is int for layer in only):
        raise CallamaError(f"{path}: layers_to_transform must hold numbers of layers, found {short(layers)}")
    found = [
        (key, module) for key, module in linear.items()
        if _matches(wanted, key, path) and not _matches(excluded, key, path)
        and (not only or int(module.split(".")[1]) in only)
    ]  # fmt: skip
    if not found:
        raise CallamaError(
            f"{path}: target_modules {short(wanted)} names no linear layer of a Llama of {n_layers} layers"
        )
    return (module for _, module in found)


def _matches(patterns: Any, key: str, path: Path) -> bool:
    if isinstance(patterns, str):
        try:
            return re.fullmatch(patterns, key) is not None
        except (re.error, RecursionError, OverflowError) as error:
            raise CallamaError(f"{path}: {short(patterns)} is not a regular expression ({error})") from None
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise CallamaError(f"{path}: names of modules must be a list or a regular expression, found {short(patterns)}")
    return any(key == pattern or key.endswith(f".{pattern}") for pattern in patterns)


def _get(config: Mapping[str, Any], key: str, kind: type | tuple[type, ...], path: Path) -> Any:
    found = config.get(key)
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise CallamaError(f"{path}: key {key!r} is missing or of the wrong type, found {short(found)}")
    return found


def _rank(config: Mapping[str, Any], key: str, path: Path) -> int:
    rank: int = _get(config, key, int, path)
    if rank <= 0:
        raise CallamaError(f"{path}: {key} must be above zero, found {short(rank)}")
    if rank > MAX_RANK:
        raise CallamaError(f"{path}: {key} must be at most {MAX_RANK:,}, found {short(rank)}")
    return rank


def _number(
    config: Mapping[str, Any], key: str, path: Path, least: float = -_MAX_NUMBER, most: float = _MAX_NUMBER
) -> float:
    found = _get(config, key, (int, float), path)
    if not least <= found <= most:  # so is what is no number
        raise CallamaError(f"{path}: {key} must be a number from {least:g} to {most:g}, found {short(found)}")
    return float(found)
