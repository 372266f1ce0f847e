"""safetensors, a tensor at a time: the header tells what lies where, the rest is read or written in blocks.

The library's own readers map the file and its writers want all tensors at once. The format is eight
bytes of header length, a JSON header, and the numbers (huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from callama.common.errors import CallamaError
from callama.common.files import Checksums, HashingFile, read_json, require_file, write_json
from callama.weights.lazy import Lazy, finite, of_file, read_ahead
from callama.weights.pth import raw_bytes
from callama.weights.seal import SourceFile, crc_in_manifest, require_as_written

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_WORDS = {dtype: word for word, dtype in _DTYPES.items()}
MAX_HEADER_BYTES = 100_000_000
INDEX_SUFFIX = ".index.json"


def open_safetensors(path: Path) -> dict[str, Lazy]:
    """The tensors of one file, by name.

    Raises:
        UsageError: the file is missing.
        CallamaError: it is damaged, cut short, or holds numbers of a type that no checkpoint needs.
    """
    require_file(path, "a safetensors file")
    size, source = path.stat().st_size, SourceFile(path, crc_in_manifest(path))
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise CallamaError(f"{path} is damaged: no safetensors header; copy or download it again")
        try:
            header = json.loads(file.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            found = {
                name: finite(_entry(source, entry, 8 + length, size), path, name) for name, entry in entries.items()
            }
            _check_disjoint(entries)
        except CallamaError:
            raise
        except Exception as error:  # a stranger's header may have anything anywhere
            raise CallamaError(f"{path} is damaged: its safetensors header cannot be read ({error!r})") from None
    return found


def _entry(source: SourceFile, entry: Mapping[str, Any], base: int, size: int) -> Lazy:
    word, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if word not in _DTYPES:
        raise CallamaError(f"{source.path} holds numbers of type {word}; callama reads {', '.join(_DTYPES)}")
    dtype = _DTYPES[word]
    if not all(type(n) is int for n in (*shape, start, stop)):
        raise ValueError(f"a tensor of shape {shape} at {start} to {stop}")
    if min((*shape, start), default=0) < 0 or stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"a tensor of shape {shape} in {stop - start} bytes")
    if base + stop > size:
        raise CallamaError(f"{source.path} is cut short: {size:,} bytes, its header asks for at least {base + stop:,}")
    return of_file(source, base + start, shape, dtype)


def _check_disjoint(entries: Mapping[str, Mapping[str, Any]]) -> None:
    end, before = 0, ""
    for name, entry in sorted(entries.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        start, stop = entry["data_offsets"]
        if start < end:
            raise ValueError(f"{name} begins before {before} ends")
        end, before = stop, name


def open_sharded(folder: Path, stem: str, suffix: str, open_one: Callable[[Path], dict[str, Lazy]]) -> dict[str, Lazy]:
    """The tensors of ``STEM SUFFIX`` or, where there is an index, of all files that it names.

    Raises:
        UsageError: a file is missing.
        CallamaError: a file is damaged, or does not hold what the index says, or the index was changed.
    """
    single, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}{INDEX_SUFFIX}"
    if not index.is_file():
        return open_one(single)
    raw = read_json(index, "the index of a sharded checkpoint")
    places = raw.get("weight_map") if isinstance(raw, Mapping) else None
    if not isinstance(places, Mapping) or not all(
        isinstance(name, str) and Path(name).name == name for name in places.values()
    ):
        raise CallamaError(f"{index} has no 'weight_map' of tensor names and file names")
    if single.is_file() and single.name not in places.values():
        raise CallamaError(
            f"{folder} holds {single.name} and {index.name}, which names other files: two models in one folder; "
            "take away the one that you do not mean"
        )
    require_as_written(index)
    files = {name: open_one(require_file(folder / name, f"a shard that {index.name} names"))
             for name in dict.fromkeys(places.values())}  # fmt: skip
    for tensor, name in places.items():
        if tensor not in files[name]:
            raise CallamaError(f"{folder / name} lacks tensor {tensor}, which {index.name} says is there")
    return {tensor: files[name][tensor] for tensor, name in places.items()}


def save_safetensors(
    path: Path, tensors: Mapping[str, Lazy], advance: Callable[[int], None] = lambda _: None
) -> Checksums:
    """Writes one file, block by block; returns its checksums."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        offsets = [at, at + tensor.nbytes]
        header[name] = {"dtype": _WORDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        at += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file = HashingFile(path, with_crc32=True)
    try:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, blocks in read_ahead(tensors):
            for block in blocks:
                file.write(raw_bytes(block))
                advance(block.nbytes)
    finally:
        file.close()
    return file.checksums


def save_sharded(
    folder: Path, tensors: Mapping[str, Lazy], shard_bytes: int, advance: Callable[[int], None]
) -> dict[str, Checksums]:
    """Writes ``model.safetensors``, or several files of at most ``shard_bytes`` (or one tensor) with
    an index; returns the checksums of each file by name."""
    shards: list[dict[str, Lazy]] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > shard_bytes:
            shards.append({})
        shards[-1][name] = tensor
    if len(shards) == 1:
        return {"model.safetensors": save_safetensors(folder / "model.safetensors", tensors, advance)}
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    checksums = {
        name: save_safetensors(folder / name, shard, advance) for name, shard in zip(names, shards, strict=True)
    }
    places = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / f"model.safetensors{INDEX_SUFFIX}", {"metadata": {"total_size": total}, "weight_map": places})
    return checksums
