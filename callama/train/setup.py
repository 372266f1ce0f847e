"""Everything that is checked and opened before the first step, so that a run fails in its first
second or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest, require_writable, sha256_file
from callama.contract import CONTRACT_VERSION
from callama.data.dataset import METADATA, Dataset
from callama.model.device import choose_device, choose_dtype, require_dtype
from callama.model.lora import add_lora
from callama.model.params import ModelParams
from callama.model.transformer import Transformer
from callama.text.tokenizer import Tokenizer, load_tokenizer
from callama.train.config import TrainConfig
from callama.train.estimate import require_memory
from callama.train.heap import give_back_freed_memory, keep_few_primitives
from callama.weights.adapter import find_adapter
from callama.weights.native import (
    PARAMS,
    WEIGHTS,
    NativeCheckpoint,
    build_model,
    build_packed,
    read_native,
    require_own_tokenizer,
)
from callama.weights.pth import contents
from callama.weights.seal import require_as_written


@dataclass
class Run:
    """What the loop works with."""

    model: Transformer
    params: ModelParams
    trainable: int
    tokenizer: Tokenizer
    train_data: Dataset
    validation_data: Dataset | None
    device: torch.device
    dtype: torch.dtype
    facts: dict[str, Any]


Build = Callable[..., Transformer]
# What a model is asked to have under other words.
_DECIDES = {"multiple_of": "ffn_dim", "ffn_dim_multiplier": "ffn_dim", "n_kv_heads": "kv_heads"}
DTYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def prepare(config: TrainConfig, build: Build | None = None) -> Run:
    """Opens model, tokenizer and data and checks that they belong together; ``build`` makes the model of a
    checkpoint, as ``build_model`` does, which is the default.

    Raises:
        UsageError: a file is missing. CallamaError: two of them do not fit, saying which and why.
    """
    try:
        device = choose_device(config.place)
        require_dtype(config.dtype, device)
    except ValueError as error:
        raise UsageError(config.spelled(str(error))) from None
    dtype = choose_dtype(config.dtype, device)
    train_data = _one_dataset(config.train.dataset_sources, "train.dataset_sources")
    validation_data = None
    if config.validation.enabled and config.validation.dataset_sources:
        validation_data = _one_dataset(config.validation.dataset_sources, "validation.dataset_sources")
    if not len(train_data):
        raise CallamaError(f"{train_data.path} is empty; build it again from a file with conversations")
    if validation_data is not None and not len(validation_data):
        raise CallamaError(
            f"{validation_data.path} is empty; build with a --val-ratio above 0, or set validation.enabled=false"
        )
    weights = find_adapter(config.model_ckpt_file)  # a job's folder stands for its newest checkpoint
    folder = weights if weights.is_dir() else weights.parent
    require_as_written(folder / PARAMS)
    checkpoint = read_native(folder, None if weights.is_dir() else weights)
    _check_shape(config, checkpoint)
    tokenizer = load_tokenizer(config.tokenizer_file or folder)
    require_own_tokenizer(checkpoint, tokenizer)
    for data in filter(None, (train_data, validation_data)):
        _check_data(config, data, tokenizer, checkpoint)
        _check_dialect(data, train_data, checkpoint)
    for output in (config.checkpoint, config.tensorboard):
        if output.enabled:
            require_writable(output.folder)
    if build is None:
        build = build_packed if config.method == "qlora" else build_model
    if config.check_memory:
        require_memory(config)
    model = build(checkpoint, dtype=dtype, device=device, dropout=config.model.dropout())
    torch.manual_seed(config.seed)
    if config.method != "full":
        add_lora(model, config.lora.params())
    model.recompute = config.train.recompute
    if device.type == "cpu":
        keep_few_primitives()
        if model.recompute:
            give_back_freed_memory()
    return Run(
        model,
        checkpoint.params,
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        tokenizer,
        train_data,
        validation_data,
        device,
        dtype,
        _facts(weights if weights.is_file() else folder / WEIGHTS, train_data)
        | {"base_params": {k: v for k, v in asdict(checkpoint.params).items() if k != "max_seq_len"}}  # its context
        | {"computed_in": DTYPE_NAMES[dtype]}
        | ({"base_trained_on_as": "nf4"} if config.method == "qlora" else {}),
    )


def _one_dataset(sources: list[Path], key: str) -> Dataset:
    if len(sources) != 1:
        raise UsageError(f"{key} names {len(sources)} files; name one (callama build joins several sources)")
    return Dataset(sources[0])


def _check_shape(config: TrainConfig, checkpoint: NativeCheckpoint) -> None:
    shape = config.model.shape()
    try:
        wanted = ModelParams.from_meta({**checkpoint.params.to_meta(), **shape}).arithmetic()
    except ValueError as error:
        raise UsageError(f"model_config: {error}; leave out what describes the model") from None
    found = checkpoint.params.arithmetic()
    for key in shape:
        name = _DECIDES.get(key, key)
        if wanted[name] != found[name]:
            means = "" if name == key else f", which makes {name} {wanted[name]}"
            raise UsageError(
                f"model_config.{key} is {shape[key]}{means}, but {checkpoint.path / PARAMS} says {found[name]}; "
                "leave the key out, or name the model that it is meant for"
            )
    if config.model.max_seq_len > checkpoint.params.max_seq_len:
        raise UsageError(
            f"model_config.max_seq_len is {config.model.max_seq_len}, longer than the model's context of "
            f"{checkpoint.params.max_seq_len} tokens; set that or less"
        )
    if config.method != "full" and config.lora.lora_rank > checkpoint.params.dim:
        raise UsageError(
            f"lora_config.lora_rank is {config.lora.lora_rank}, above the model's width of {checkpoint.params.dim}; "
            "usual ranks are 8 to 64"
        )


def _check_data(config: TrainConfig, data: Dataset, tokenizer: Tokenizer, checkpoint: NativeCheckpoint) -> None:
    if not data.metadata:
        raise CallamaError(f"{METADATA} is missing beside {data.path}; copy it too, it says how the data were built")
    built_with = data.metadata.get("tokenizer_sha256")
    if built_with != tokenizer.sha256:
        raise CallamaError(
            f"{data.path} was built with another tokenizer (sha256 {str(built_with)[:12]}…) than {tokenizer.file} "
            f"({tokenizer.sha256[:12]}…); build it again with this one"
        )
    if (version := data.metadata.get("contract_version")) != CONTRACT_VERSION:
        raise CallamaError(f"{data.path} has contract version {version}, this is {CONTRACT_VERSION}; build it again")
    longest, limit = int(max(data.lengths, default=0)), config.model.max_seq_len
    if longest > limit:
        too_long = int((data.lengths > limit).sum())
        raise CallamaError(
            f"{data.path}: {too_long} of {len(data)} conversations are longer than model_config.max_seq_len = {limit} "
            f"tokens (the longest has {longest}; the model's context is {checkpoint.params.max_seq_len}); "
            f"raise max_seq_len, or build with --max-tokens {limit}"
        )


def _check_dialect(data: Dataset, train_data: Dataset, checkpoint: NativeCheckpoint) -> None:
    found, trained = data.metadata.get("dialect"), train_data.metadata.get("dialect")
    if found != trained:
        raise CallamaError(
            f"{data.path} is in dialect {found!r} and {train_data.path} in {trained!r}; build both in the same one"
        )
    # Of a base that was fine-tuned already; others know no dialect.
    if found != (speaks := read_manifest(checkpoint.path).get("dialect", found)):
        raise CallamaError(
            f"{data.path} is in dialect {found!r} and the model in {checkpoint.path} was trained in {speaks!r}; "
            "build the data in that one, or start from the model that it was fine-tuned from"
        )


def _facts(weights: Path, data: Dataset) -> dict[str, str]:
    base = read_manifest(weights.parent).get("files", {}).get(weights.name, {}).get("sha256", "")
    return {
        "base": weights.resolve().parent.name,
        "base_sha256": base,
        "base_contents": contents(weights),
        "data_sha256": sha256_file(data.path),  # of the file itself: its manifest may be an older one's
        "dialect": str(data.metadata.get("dialect", "")),
        "tokenizer_sha256": str(data.metadata.get("tokenizer_sha256", "")),
    }
