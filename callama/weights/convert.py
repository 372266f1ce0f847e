"""Any format to any other: the kind of a source is seen from its files, the destination is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, name_of, require_file, sha256_file, write_json
from callama.common.places import require_apart
from callama.contract import tool_uses
from callama.model.params import ModelParams
from callama.weights import adapter as adapters
from callama.weights.adapter import (
    adapter_facts,
    find_adapter,
    is_adapter,
    read_adapter,
    require_factors_only,
    save_adapter,
)
from callama.weights.adapter_config import ORIGINAL_CONFIG
from callama.weights.gguf_in import open_gguf
from callama.weights.gguf_out import write_gguf
from callama.weights.hf import CONFIG, SHARD_BYTES, open_hf, write_hf
from callama.weights.meta import open_meta, shard_files, write_meta
from callama.weights.native import PARAMS, WEIGHTS, open_native, read_params, write_native
from callama.weights.seal import require_as_written
from callama.weights.source import DTYPES, Source, warn
from callama.weights.tokenizers import loaded_tokenizer

Target = Literal["native", "hf", "meta", "gguf", "peft"]
TARGETS = get_args(Target)
MAX_VLLM_RANK = 512


def open_source(path: Path) -> Source:
    """Opens a model of any kind that callama reads.

    Raises:
        UsageError: nothing that looks like a model is there.
        CallamaError: a file is missing or damaged, or files disagree.
    """
    if path.is_file() and path.suffix == ".gguf":
        return open_gguf(path)
    path = path if _holds_model(path) else find_adapter(path)
    if not path.is_dir():
        raise UsageError(f"{path} is neither a folder nor a .gguf file; expected a model: name the folder of its files")
    if (path / WEIGHTS).is_file():
        return open_native(path)
    if shard_files(path):
        return open_meta(path)
    if (path / CONFIG).is_file():
        return open_hf(path)
    raise UsageError(
        f"{path} is no model that callama knows: expected {PARAMS} with {WEIGHTS} (native) or consolidated.NN.pth "
        f"(Meta), {CONFIG} with safetensors (Hugging Face), or a .gguf file"
    )


def _holds_model(folder: Path) -> bool:
    """Whether a folder holds a model's weights itself, whatever a trainer left beside them."""
    if not folder.is_dir():
        return False
    theirs = (folder / CONFIG).is_file() and any(
        path.name.startswith(("model", "pytorch_model")) and path.suffix in (".safetensors", ".bin")
        for path in folder.iterdir()
    )
    return theirs or (folder / WEIGHTS).is_file() or bool(shard_files(folder))


def _holds_adapter(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (adapters.WEIGHTS, adapters.OLDER_WEIGHTS, ORIGINAL_CONFIG))


def convert(
    source_path: Path, out: Path, to: Target, *, dtype: str | None = None, shard_size: int | None = None
) -> None:
    """Writes ``out`` from a model, or from an adapter where ``to`` is ``peft``.

    ``shard_size`` is in bytes and for ``hf`` only; ``dtype`` is one of ``DTYPES``, by default the source's.

    Raises:
        UsageError: the source is not there, the destination is the source or in it, or they do not go together.
        CallamaError: the source is damaged or contradicts itself.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype must be one of {', '.join(DTYPES)}, found {dtype!r}")
    if shard_size is not None and to != "hf":
        raise UsageError("--shard-size is for --to hf; other formats decide it themselves")
    if not source_path.exists():
        raise UsageError(f"{source_path} does not exist; expected a model or an adapter")
    require_apart(out, source_path)
    if is_adapter(source_path) and not (_holds_model(source_path) and not _holds_adapter(source_path)):
        if to != "peft":
            raise UsageError(f"{source_path} is an adapter: it goes --to peft, or into its base with callama merge")
        _convert_adapter(source_path, out, dtype)
        return
    if to == "peft":
        raise UsageError(f"{source_path} is no adapter; --to peft takes a checkpoint of a run or the original's files")
    source = open_source(source_path).as_dtype(dtype)
    require_apart(out, source.path)
    note_tokenizer(source, out)
    if to == "native":
        write_native(out, source.params, source.tensors, source.tokenizer, source.origin())
        return
    writers: dict[str, Callable[[], None]] = {
        "hf": lambda: write_hf(out, source, shard_size or SHARD_BYTES),
        "meta": lambda: write_meta(out, source),
        "gguf": lambda: write_gguf(out, source),
    }
    writers[to]()


def note_tokenizer(source: Source, out: Path) -> None:
    """Tells a user that a model without tokenizer stays one.

    Raises:
        CallamaError: the tokenizer belongs to another model.
    """
    if loaded_tokenizer(source) is None:
        warn(f"{source.path} has no tokenizer, so neither has {out}: put the model's own beside its weights first")


def _convert_adapter(path: Path, out: Path, dtype: str | None) -> None:
    """An adapter in any layout becomes a folder that ``peft`` loads as it is, within what vLLM says it serves."""
    require_apart(out, path := find_adapter(path))
    params = _params_beside(path)
    adapter = read_adapter(path, params)
    require_factors_only(path, adapter)
    if adapter.lora.rank > MAX_VLLM_RANK:
        raise CallamaError(f"{path} has rank {adapter.lora.rank}; vLLM serves at most {MAX_VLLM_RANK}")
    if adapter.lora.dora:
        warn("peft reads this DoRA adapter; vLLM serves none, so for vLLM merge it into its base (callama merge)")
    if dtype is not None:
        adapter = adapter.cast(DTYPES[dtype])
    known = adapter_facts(path)
    carried: dict[str, object] = {key: known[key] for key in ("base", "base_sha256", "dialect") if key in known}
    weights: dict[str, str] = {} if path.is_dir() else {"source_sha256": sha256_file(path)}
    facts = {
        "kind": "PEFT adapter", "source": name_of(path), "dtype": dtype or "fp32",
        "dialect": tool_uses.NAME, **weights, **carried,
    }  # fmt: skip
    with atomic_folder(out, facts) as temporary:
        save_adapter(temporary, adapter, params, adapters.base_name(path))
        # So that the folder is a source again.
        write_json(temporary / PARAMS, params.to_meta())


def _params_beside(path: Path) -> ModelParams:
    place = next((f for f in (path / PARAMS, path.parent / PARAMS) if f.is_file()), path.parent / PARAMS)
    require_file(place, "the base model's params.json beside its adapter: the order of q's and k's rows depends on it")
    params = read_params(place)
    require_as_written(place)
    return params
