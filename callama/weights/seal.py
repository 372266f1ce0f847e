"""A source's file, read in blocks and held against the sha256 that callama gave it.

The checksum is of the whole file, so it is known only at the end: bytes are hashed in a thread while they come past,
and before a result takes its place ``check`` reads the little that no tensor needed. A separate pass would read twice
what may be larger than memory. Files of other tools have no checksum and are read as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from callama.common.errors import CallamaError
from callama.common.files import MANIFEST, read_manifest, sha256_file

# What lies between two tensors of a file; more than that is left for the end.
_MAX_GAP_BYTES = 1 << 20
_BLOCK_BYTES = 32 << 20


class SourceFile:
    """A file whose blocks are read in any order; those that come in the file's order are hashed on the way."""

    def __init__(self, path: Path, seal: str | None = None, head: bytes = b"") -> None:
        """``seal`` is the sha256 that the file should have, by default the one in the manifest beside it;
        ``head`` is hashed for as many bytes at the file's start."""
        self.path = path
        self._seal, self._inside = seal or _in_manifest(path), seal is not None
        self._digest, self._position = hashlib.sha256(head), len(head)
        self._hasher = ThreadPoolExecutor(1)
        self._hashed: Future[None] | None = None

    @property
    def sealed(self) -> bool:
        """Whether there is a checksum to hold it against."""
        return self._seal is not None

    def read(self, offset: int, count: int) -> np.ndarray:
        """``count`` bytes from ``offset`` on, as uint8; they must not be changed.

        Raises:
            CallamaError: the file ends before them.
        """
        if self._seal and 0 < offset - self._position <= _MAX_GAP_BYTES:
            self._hash(self._bytes(self._position, offset - self._position))
        found = self._bytes(offset, count)
        if self._seal and offset <= self._position < offset + count:
            self._hash(found[self._position - offset :])
        return found

    def check(self) -> None:
        """Reads and hashes what was not read yet.

        Raises:
            CallamaError: the file is not the one that callama wrote.
        """
        if self._seal is None:
            return
        while rest := min(self.path.stat().st_size - self._position, _BLOCK_BYTES):
            self._hash(self._bytes(self._position, rest))
        if self._hashed:
            self._hashed.result()
        self._hasher.shutdown()
        if self._digest.hexdigest() != self._seal:
            raise _changed(self.path, inside=self._inside)

    def _bytes(self, offset: int, count: int) -> np.ndarray:
        found = np.fromfile(self.path, dtype=np.uint8, count=count, offset=offset)
        if found.size != count:
            raise CallamaError(f"{self.path} is cut short: it ends {count - found.size:,} bytes too early")
        return found

    def _hash(self, block: Any) -> None:
        if self._hashed:
            self._hashed.result()
        self._hashed = self._hasher.submit(self._digest.update, block)
        self._position += block.size


def require_as_written(*paths: Path | None) -> None:
    """Holds small files, where they are there, against the manifest beside them.

    Raises:
        CallamaError: one is not the file that callama wrote.
    """
    for path in paths:
        if path and path.is_file() and (seal := _in_manifest(path)) and sha256_file(path) != seal:
            raise _changed(path)


def _changed(path: Path, *, inside: bool = False) -> CallamaError:
    own = "" if inside else f"; if the change is yours, take the file's entry out of {MANIFEST}"
    return CallamaError(
        f"{path} was changed or damaged after callama wrote it: its sha256 is not the one in "
        f"{'its fields' if inside else f'{MANIFEST} beside it'}. Copy or make it again{own}"
    )


def _in_manifest(path: Path) -> str | None:
    files = read_manifest(path.parent).get("files")
    entry = files.get(path.name) if isinstance(files, Mapping) else None
    seal = entry.get("sha256") if isinstance(entry, Mapping) else None
    return seal if isinstance(seal, str) else None
