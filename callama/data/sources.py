"""Files of records as they lie on disk: plain, gzip, zstd or Parquet; the first bytes decide, not the name.

A text is opened with its position on disk in sight, so that progress can be told without reading
the file twice. Compressed files stream like plain ones.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TextIO, cast

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from callama.common.errors import CallamaError, UsageError
from callama.common.files import require_file

Packing = Literal["plain", "gzip", "zstd", "parquet"]
_MAGIC: tuple[tuple[bytes, Packing], ...] = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"PAR1", "parquet"))
PACKED_SUFFIXES = (".gz", ".zst", ".zstd")
PARQUET_ROWS = 256
# What is kept of a record that is too long.
HEAD_CHARS = 2_000


class OpenText(NamedTuple):
    """An open text and the file below it, whose position says how much of it was read."""

    text: TextIO
    disk: BinaryIO


def told_apart(paths: Sequence[Path]) -> list[str]:
    """The files' names, with as much of their folders in front as tells them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def packing_of(path: Path) -> Packing:
    """How a file is packed.

    Raises:
        UsageError: no file is there, or none that may be read.
        CallamaError: it is text in another encoding than UTF-8.
    """
    require_file(path, "a JSON list, JSON Lines (also .gz and .zst) or Parquet")
    if not os.access(path, os.R_OK):
        raise UsageError(f"no permission to read {path}; change its rights or copy it")
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CallamaError(f"{path} is UTF-16 text; expected UTF-8 (`iconv -f UTF-16 -t UTF-8` makes it so)")
    return next((packing for magic, packing in _MAGIC if head.startswith(magic)), "plain")


def inner_suffix(path: Path) -> str:
    """The suffix that tells the form: ``.jsonl`` of ``rows.jsonl.zst``; lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def open_text(path: Path) -> Iterator[OpenText]:
    """A file's text, unpacked. Bytes that are not UTF-8 arrive as lone surrogates (``surrogateescape``).

    Raises:
        CallamaError: the packing is damaged, wherever that shows.
    """
    packing = packing_of(path)
    with path.open("rb") as disk:
        try:
            if packing == "gzip":
                raw: Any = gzip.GzipFile(fileobj=disk)
            elif packing == "zstd":
                raw = io.BufferedReader(pa.CompressedInputStream(disk, "zstd"), 1 << 20)
            else:
                raw = disk
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
            yield OpenText(cast(TextIO, text), disk)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CallamaError(f"{path} is a damaged {packing} file ({error}); fetch it again") from None
        except OSError as error:
            if packing == "plain" or error.errno is not None:
                raise
            raise CallamaError(f"{path} is a damaged {packing} file ({error}); fetch it again") from None


def parquet_rows(path: Path, max_bytes: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a Parquet file as objects, a few hundred in memory at a time, each with its size in Arrow's memory;
    of a row of more than ``max_bytes``, the beginnings of its texts.

    Raises:
        CallamaError: the file is damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                if batch.nbytes <= max_bytes:
                    yield from ((_given(row), 0) for row in batch.to_pylist())
                    continue
                for row in (batch.slice(index, 1) for index in range(batch.num_rows)):
                    value = _beginnings(row) if row.nbytes > max_bytes else _given(row.to_pylist()[0])
                    yield value, row.nbytes
    except (pa.ArrowException, OSError) as error:
        raise CallamaError(f"{path} is a damaged Parquet file ({str(error)[:200]}); fetch it again") from None


def _given(value: Any) -> Any:
    """A value without the nulls of its objects: a column gives each of its objects the keys of all the others."""
    if isinstance(value, dict):
        return {key: _given(inner) for key, inner in value.items() if inner is not None}
    return [_given(inner) for inner in value] if isinstance(value, list) else value


def _beginnings(row: Any) -> dict[str, Any]:
    texts = [
        name
        for name, kind in zip(row.schema.names, row.schema.types, strict=True)
        if kind in (pa.string(), pa.large_string())
    ]
    return {name: pa.compute.utf8_slice_codeunits(row[name], 0, HEAD_CHARS)[0].as_py() for name in texts}


def parquet_count(path: Path) -> int:
    """How many rows a Parquet file has.

    Raises:
        CallamaError: the file is damaged.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise CallamaError(f"{path} is a damaged Parquet file ({str(error)[:200]}); fetch it again") from None
