"""Meta's own layout: ``consolidated.NN.pth``, one for each rank of tensor parallelism.

Which way a tensor is cut follows from fairscale's layer that holds it (llama-models,
``llama3/model.py``): column-parallel layers and Llama 3's VocabParallelEmbedding along rows,
row-parallel layers (wo, w2) along columns, norms not at all. Meta's loader always wants an
``output.weight``; of a tied model it is a copy of the embedding, dropped again on the way in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import MANIFEST, Checksums, atomic_folder, read_manifest, write_json
from callama.common.places import require_apart
from callama.common.progress import Meter
from callama.model.params import META_FACTOR, ModelParams
from callama.weights.lazy import Lazy, check_files, joined, read_ahead, same_numbers
from callama.weights.names import EMBEDDING, OUTPUT
from callama.weights.native import PARAMS, own_facts, read_params
from callama.weights.pth import PthWriter, open_pth
from callama.weights.seal import require_as_written
from callama.weights.source import Source, check_state, expected_shapes, find_tokenizer, warn
from callama.weights.tokenizers import loaded_tokenizer, write_meta_tokenizer

SHARD_COUNTS = (1, 2, 4, 8)
_SHARD = re.compile(r"consolidated\.(\d\d)\.pth")
_ROPE_CONSTANT = "rope.freqs"
# Norms of one model differ a little from rank to rank (70B); those of two models differ by more.
_NORM_TOLERANCE = 0.05


def split_dim(name: str) -> int | None:
    """Along which dimension a tensor is cut: 0 rows, 1 columns, None not at all."""
    module = name.removesuffix(".weight").rpartition(".")[2]
    if module.endswith("norm"):
        return None
    return 1 if module in ("wo", "w2") else 0


def shard_files(folder: Path) -> list[Path]:
    """The shards of a Meta folder in the order of their ranks.

    Raises:
        CallamaError: a number is missing.
    """
    found = {int(m[1]): path for path in folder.iterdir() if (m := _SHARD.fullmatch(path.name))}
    for number in range(max(found, default=-1) + 1):
        if number not in found:
            raise CallamaError(f"{folder} lacks consolidated.{number:02}.pth; it has {len(found)} other shards")
    return [found[number] for number in sorted(found)]


def open_meta(folder: Path) -> Source:
    """A folder as Meta ships it.

    Raises:
        UsageError: a file is missing.
        CallamaError: a shard is missing, damaged or of another model, or params.json disagrees or was changed.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; expected Meta's params.json and consolidated.NN.pth")
    files = shard_files(folder)
    if not files:
        raise UsageError(f"{folder} holds no consolidated.00.pth; expected a folder as Meta ships it")
    params = read_params(folder)
    shards = [open_pth(path) for path in files]
    for shard in shards:
        shard.pop(_ROPE_CONSTANT, None)
    _check_alike(files, shards)
    _check_count(folder, shards, params)
    for path, shard, before in zip(files[1:], shards[1:], shards, strict=False):
        if EMBEDDING in shard and same_numbers(shard[EMBEDDING], before[EMBEDDING]):
            raise CallamaError(f"{path} is the same part of the model as the shard before it; is it a copy?")
    tensors = {name: _join(name, [shard[name] for shard in shards]) for name in shards[0]}
    check_state(folder, tensors, params, str(folder / PARAMS))
    if OUTPUT in tensors and same_numbers(tensors[OUTPUT], tensors[EMBEDDING]):
        del tensors[OUTPUT]
    order = expected_shapes(params, tied=OUTPUT not in tensors)
    require_as_written(folder / PARAMS)
    return Source("Meta checkpoint", folder, params, {name: tensors[name] for name in order}, find_tokenizer(folder),
                  read_manifest(folder))  # fmt: skip


def _check_alike(files: Sequence[Path], shards: Sequence[Mapping[str, Lazy]]) -> None:
    first = shards[0]
    for path, shard in zip(files[1:], shards[1:], strict=True):
        if odd := sorted(set(shard) ^ set(first)):
            raise CallamaError(f"{path} and {files[0].name} are shards of different models: only one has {odd[0]}")
        for name, tensor in shard.items():
            found, expected = (tensor.shape, tensor.dtype), (first[name].shape, first[name].dtype)
            if found != expected:
                raise CallamaError(
                    f"{path} and {files[0].name} are shards of different models: {name} is {found} and {expected}"
                )
            if split_dim(name) is None:
                ours, theirs = first[name].whole().float(), tensor.whole().float()
                if not ours.numel():
                    raise CallamaError(f"{path} is damaged: {name} holds no numbers")
                difference = (ours - theirs).abs().max()
                if difference > _NORM_TOLERANCE * ours.abs().max():
                    raise CallamaError(
                        f"{path} and {files[0].name} are shards of different models: {name}, which every shard "
                        f"repeats, differs by up to {difference:.3g}"
                    )


def _check_count(folder: Path, shards: Sequence[Mapping[str, Lazy]], params: ModelParams) -> None:
    shape = shards[0][EMBEDDING].shape if EMBEDDING in shards[0] else (0,)
    if len(shards) > 1 and shape == (params.vocab_size, params.dim // len(shards)):
        raise CallamaError(
            f"{folder}: {EMBEDDING} is cut along its columns, as the original project's script does and Meta's code "
            "for Llama 3 does not read; convert the native checkpoint again, with scripts/convert_to_meta_weights.py"
        )
    rows = shape[0]
    if rows and rows * len(shards) < params.vocab_size and params.vocab_size % rows == 0:
        raise CallamaError(
            f"{folder} has {len(shards)} of {params.vocab_size // rows} shards: each holds {rows:,} of the "
            f"{params.vocab_size:,} rows of {EMBEDDING} that {PARAMS} asks for"
        )


def _join(name: str, parts: Sequence[Lazy]) -> Lazy:
    dim = split_dim(name)
    if dim is None or len(parts) == 1:
        return parts[0]
    if len(parts[0].shape) != 2:
        raise CallamaError(f"{name} must have two dimensions, found shape {parts[0].shape}")
    return joined(parts, dim)


def _pieces(block: Tensor, dim: int | None, first_row: int, rows: int, count: int) -> Iterator[tuple[int, Tensor]]:
    """The shards that a block of rows belongs to, each with its part of the block."""
    if dim is None:
        yield from ((shard, block) for shard in range(count))
    elif dim == 1:
        yield from enumerate(block.chunk(count, dim=1))
    else:
        per_shard = rows // count
        for shard in range(first_row // per_shard, (first_row + len(block) - 1) // per_shard + 1):
            low, high = max(shard * per_shard - first_row, 0), (shard + 1) * per_shard - first_row
            yield shard, block[low:high]


def _shard_shape(tensor: Lazy, dim: int | None, count: int) -> Lazy:
    shape = tuple(n // count if i == dim else n for i, n in enumerate(tensor.shape))
    return replace(tensor, shape=shape)


def check_divisible(params: ModelParams, count: int) -> None:
    """Makes sure that a model can be cut into this many shards.

    Raises:
        UsageError: the number is not 1, 2, 4 or 8, or does not divide a size of the model.
    """
    if count not in SHARD_COUNTS:
        raise UsageError(f"the number of shards must be one of {', '.join(map(str, SHARD_COUNTS))}, found {count}")
    sizes = {
        "n_heads": params.n_heads, "n_kv_heads": params.kv_heads, "vocab_size": params.vocab_size,
        "the feed-forward's width": params.ffn_dim, "dim": params.dim,
    }  # fmt: skip
    for name, size in sizes.items():
        if size % count:
            raise UsageError(f"{count} shards are not possible: {name} is {size}, which {count} does not divide")


def write_meta(folder: Path, source: Source, count: int = 1) -> None:
    """Writes ``count`` shards, params.json and, of a Llama 3 tokenizer, ``tokenizer.model``.

    Every tensor is read once: its blocks go to all shards side by side.

    Raises:
        UsageError: the model cannot be cut into this many shards, or ``folder`` is the source's.
        CallamaError: the source's tokenizer belongs to another model.
    """
    check_divisible(source.params, count)
    if source.params.use_scaled_rope and (factor := source.params.rope_scale_factor) != META_FACTOR:
        warn(
            f"this model stretches RoPE {factor:g}-fold, which Meta's params.json cannot say: Meta's own code takes "
            f"{META_FACTOR:g} for every model and gives other logits. callama reads it from {folder / MANIFEST}: keep "
            "that file"
        )
    require_apart(folder, source.path)
    loaded_tokenizer(source)
    tensors = dict(source.tensors)
    if source.tied:
        tensors[OUTPUT] = tensors[EMBEDDING]
    facts = {"kind": "Meta checkpoint", **own_facts(source.params), **source.origin(), "shards": count}
    names = [f"consolidated.{i:02}.pth" for i in range(count)]
    shapes = {name: _shard_shape(tensor, split_dim(name), count) for name, tensor in tensors.items()}
    checksums: dict[str, Checksums] = {}
    total = sum(tensor.nbytes for tensor in tensors.values())
    with atomic_folder(folder, facts, checksums) as temporary, Meter("writing", total, "bytes") as meter:
        write_json(temporary / PARAMS, source.params.to_meta())
        write_meta_tokenizer(source, temporary)
        with ExitStack() as stack:
            writers = [stack.enter_context(PthWriter(temporary / name, shapes)) for name in names]
            for name, blocks in read_ahead(tensors):
                _write_tensor(writers, name, blocks, tensors[name].shape[0], meter)
        check_files(tensors.values())
        checksums.update({name: writer.checksums for name, writer in zip(names, writers, strict=True)})


def _write_tensor(writers: Sequence[PthWriter], name: str, blocks: Iterable[Tensor], rows: int, meter: Meter) -> None:
    dim = split_dim(name)
    with ExitStack() as stack:
        write = [stack.enter_context(writer.tensor(name)) for writer in writers]
        row = 0
        for block in blocks:
            for shard, piece in _pieces(block, dim, row, rows, len(writers)):
                write[shard](piece)
            row += len(block)
            meter.advance(block.nbytes)
