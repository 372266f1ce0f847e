"""Tensors that are read a few rows at a time, so that memory does not grow with the model.

A conversion is a chain of these: where the numbers lie, how their order or type changes, what is
added to them. Nothing is read before a writer asks for the next block. Files are read rather than
mapped: pages of a mapping would count as this process's memory for as long as nobody else needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor

from callama.common.errors import CallamaError
from callama.weights.seal import SourceFile

# Below the 32 MiB from which on glibc's malloc takes new pages from the system for every block.
BLOCK_BYTES = 24 << 20
_LARGEST = {
    torch.float16: ("65,504, the largest of fp16", "--dtype bf16 or fp32"),
    torch.bfloat16: ("3.39e38, the largest of bf16", "--dtype fp32"),
    torch.float32: ("3.40e38, the largest of fp32", "the type that they have, without --dtype"),
}


@dataclass(frozen=True)
class Lazy:
    """A tensor of ``shape`` (rows, …) and ``dtype``; ``read(start, stop)`` gives those rows.

    ``step`` rows belong together: start and stop must be multiples of it. ``files`` are those that it reads.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[int, int], Tensor]
    step: int = 1
    files: tuple[SourceFile, ...] = ()

    def blocks(self) -> Iterator[Tensor]:
        """All rows in order, in blocks of about 24 MiB (counted in fp32)."""
        row_bytes = 4 * math.prod(self.shape[1:])
        rows = max(self.step, BLOCK_BYTES // max(row_bytes, 1) // self.step * self.step)
        for start in range(0, self.shape[0], rows):
            yield self.read(start, min(start + rows, self.shape[0]))

    def whole(self) -> Tensor:
        """The tensor itself."""
        return self.read(0, self.shape[0])

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_ahead(tensors: Mapping[str, Lazy]) -> Iterator[tuple[str, Iterator[Tensor]]]:
    """Name and blocks of each tensor in turn, for a writer: while it writes one block, the next is read and computed in
    another thread."""

    def one_by_one() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in tensors.items():
            for block in tensor.blocks():
                yield name, block

    def ahead() -> Iterator[tuple[str, Tensor]]:
        blocks = one_by_one()
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(next, blocks, None)
            while (found := coming.result()) is not None:
                coming = reader.submit(next, blocks, None)
                yield found

    for name, found in groupby(ahead(), key=itemgetter(0)):
        yield name, (block for _, block in found)


def of_tensor(tensor: Tensor) -> Lazy:
    """A tensor that is there already."""
    return Lazy(tuple(tensor.shape), tensor.dtype, lambda start, stop: tensor[start:stop])


def of_file(file: SourceFile, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Lazy:
    """A tensor that lies in a file, row after row in the machine's byte order, from ``offset`` on."""
    width = math.prod(shape[1:]) * dtype.itemsize

    def read(start: int, stop: int) -> Tensor:
        data = file.read(offset + start * width, (stop - start) * width)
        return torch.from_numpy(data).view(dtype).view(stop - start, *shape[1:])

    return Lazy(shape, dtype, read, files=(file,))


def check_files(tensors: Iterable[Lazy]) -> None:
    """Holds the files of tensors that were read against the checksums that callama gave them.

    Raises:
        CallamaError: a file was changed or damaged.
    """
    for file in {file: None for tensor in tensors for file in tensor.files}:
        file.check()


def finite(tensor: Lazy, path: Path, name: str) -> Lazy:
    """The same; reading it fails where a number is none. ``name`` is what the file calls it.

    Raises (when read):
        CallamaError: NaN or infinity.
    """

    def read(start: int, stop: int) -> Tensor:
        rows = tensor.read(start, stop)
        # Both are NaN where one number is; many times faster than isfinite of each.
        if rows.numel() and not all(extreme.isfinite() for extreme in rows.aminmax()):
            check_files([tensor])
            count = sum(int((~block.isfinite()).sum()) for block in tensor.blocks())
            raise CallamaError(
                f"{path}: {name} holds {count:,} NaN or infinite numbers among {math.prod(tensor.shape):,}, so the "
                "model computes nothing; copy the file again, or take a checkpoint from before its training broke"
            )
        return rows

    return replace(tensor, read=read)


def cast(tensor: Lazy, dtype: torch.dtype) -> Lazy:
    """The same numbers, rounded to another type."""
    if dtype == tensor.dtype:
        return tensor
    return replace(tensor, dtype=dtype, read=lambda start, stop: tensor.read(start, stop).to(dtype))


def held_by(rounded: Tensor, name: str, otherwise: str = "") -> Tensor:
    """The same finite numbers after rounding, of which a type that could not hold them makes infinity. ``otherwise`` is
    what to take instead, where that is no other type.

    Raises:
        CallamaError: it has.
    """
    if rounded.numel() and not all(extreme.isfinite() for extreme in rounded.aminmax()):
        largest, instead = _LARGEST.get(rounded.dtype, ("1.80e308, the largest of fp64", "other weights"))
        raise CallamaError(f"{name} has numbers beyond {largest}: take {otherwise or instead}")
    return rounded


def in_range(tensor: Lazy, name: str) -> Lazy:
    """The same; reading it fails where its type could not hold a number that was rounded to it.

    Raises (when read):
        CallamaError: a number is beyond the type's largest.
    """
    return replace(tensor, read=lambda start, stop: held_by(tensor.read(start, stop), name))


def joined(parts: Sequence[Lazy], dim: int) -> Lazy:
    """Pieces put side by side along rows (0) or columns (1)."""
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)

    def rows(start: int, stop: int) -> Tensor:
        found, first = [], 0
        for part in parts:
            low, high = max(start - first, 0), min(stop - first, part.shape[0])
            if low < high:
                found.append(part.read(low, high))
            first += part.shape[0]
        return torch.cat(found)

    def columns(start: int, stop: int) -> Tensor:
        return torch.cat([part.read(start, stop) for part in parts], dim=1)

    files = tuple(file for part in parts for file in part.files)
    return Lazy(tuple(shape), parts[0].dtype, columns if dim else rows, files=files)


def permute_rows(rows: Tensor, n_heads: int) -> Tensor:
    """Meta's interleaved rows (out, …) to Hugging Face's half-rotated order
    (transformers, ``convert_llama_weights_to_hf.py``)."""
    return rows.view(n_heads, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def unpermute_rows(rows: Tensor, n_heads: int) -> Tensor:
    """The inverse of ``permute_rows``."""
    return rows.view(n_heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def by_head(tensor: Lazy, head_dim: int, permute: Callable[[Tensor, int], Tensor]) -> Lazy:
    """A projection whose rows are put in another order within each head of ``head_dim`` rows."""

    def read(start: int, stop: int) -> Tensor:
        return permute(tensor.read(start, stop), (stop - start) // head_dim)

    return replace(tensor, read=read, step=head_dim)


def same_numbers(left: Lazy, right: Lazy) -> bool:
    """Whether two tensors are bit for bit the same; reads only as far as they are."""
    if (left.shape, left.dtype) != (right.shape, right.dtype):
        return False
    # As bytes, because 0 is equal to -0.
    pairs = zip(left.blocks(), right.blocks(), strict=True)
    return all(torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)) for a, b in pairs)
