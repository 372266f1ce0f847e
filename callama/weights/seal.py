"""A source's file, read in blocks and held against the CRC-32 that callama gave it.

The checksum is of the whole file, so it is known only at the end: it is computed while bytes come past, and before a
result takes its place ``check`` reads the little that no tensor needed. A separate pass would read twice what may be
larger than memory. Archives of torch's have a CRC-32 of each tensor inside, so that one over the list of them, held
against it at opening, says whether it is the same archive; files of other tools are read as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from callama.common.errors import CallamaError
from callama.common.files import MANIFEST, read_manifest, sha256_file

# What lies between two tensors of a file; more than that is left for the end.
_MAX_GAP_BYTES = 1 << 20
_BLOCK_BYTES = 32 << 20


class SourceFile:
    """A file whose blocks are read in any order; those that come in the file's order are summed up on the way."""

    def __init__(self, path: Path, crc32: str | None = None, head: bytes = b"") -> None:
        """``crc32`` is what the file should have, in hexadecimal; ``head`` stands in for as many bytes at the file's
        start."""
        self.path = path
        self._expected, self._inside = crc32, bool(head)
        self._crc32, self._position = zlib.crc32(head), len(head)

    @property
    def sealed(self) -> bool:
        """Whether there is a checksum to hold it against."""
        return self._expected is not None

    def read(self, offset: int, count: int) -> np.ndarray:
        """``count`` bytes from ``offset`` on, as uint8; they must not be changed.

        Raises:
            CallamaError: the file ends before them.
        """
        if self.sealed and 0 < offset - self._position <= _MAX_GAP_BYTES:
            self._take(self._bytes(self._position, offset - self._position))
        found = self._bytes(offset, count)
        if self.sealed and offset <= self._position < offset + count:
            self._take(found[self._position - offset :])
        return found

    def check(self) -> None:
        """Reads what was not read yet.

        Raises:
            CallamaError: the file is not the one that callama wrote.
        """
        if not self.sealed:
            return
        while rest := min(self.path.stat().st_size - self._position, _BLOCK_BYTES):
            self._take(self._bytes(self._position, rest))
        if f"{self._crc32:08x}" != self._expected:
            raise changed(self.path, "CRC-32", inside=self._inside)

    def _bytes(self, offset: int, count: int) -> np.ndarray:
        found = np.fromfile(self.path, dtype=np.uint8, count=count, offset=offset)
        if found.size != count:
            raise CallamaError(f"{self.path} is cut short: it ends {count - found.size:,} bytes too early")
        return found

    def _take(self, block: Any) -> None:
        self._crc32 = zlib.crc32(block, self._crc32)
        self._position += block.size


def require_as_written(*paths: Path | None) -> None:
    """Holds small files, where they are there, against the manifest beside them.

    Raises:
        CallamaError: one is not the file that callama wrote.
    """
    for path in paths:
        if path and path.is_file() and (expected := _in_manifest(path, "sha256")) and sha256_file(path) != expected:
            raise changed(path, "sha256")


def crc_in_manifest(path: Path) -> str | None:
    """The CRC-32 that the manifest beside a file gives it; None where callama did not write it."""
    return _in_manifest(path, "crc32")


def index_crc_in_manifest(path: Path) -> str | None:
    """The same of an archive's list of members."""
    return _in_manifest(path, "index_crc32")


def changed(path: Path, what: str, *, inside: bool = False) -> CallamaError:
    """The error of a file whose checksum (``what``) is not the one that callama gave it."""
    own = (
        "take its field callama.crc32 out with gguf-new-metadata --remove-metadata callama.crc32"
        if inside
        else f"take the file's entry out of {MANIFEST}"
    )
    return CallamaError(
        f"{path} was changed or damaged after callama wrote it: its {what} is not the one in "
        f"{'its fields' if inside else f'{MANIFEST} beside it'}. Copy or make it again; if the change is yours, {own}"
    )


def _in_manifest(path: Path, what: str) -> str | None:
    files = read_manifest(path.parent).get("files")
    entry = files.get(path.name) if isinstance(files, Mapping) else None
    found = entry.get(what) if isinstance(entry, Mapping) else None
    return found if isinstance(found, str) else None
