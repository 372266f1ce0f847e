"""Several sources read as one, and the share that each gets of what is kept.

A mixture only ever leaves out: the source that is scarcest for its share is kept whole, and the
others lose conversations that the seed draws. Nothing is repeated to reach a share.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callama.common.errors import CallamaError, UsageError
from callama.data.records import Record, Scan


def require_shares(mix: Sequence[float], n_sources: int) -> None:
    """Makes sure that ``mix`` is empty or gives every source its share.

    Raises:
        UsageError: there are more or fewer shares than sources, or one is not a number of 0 or more.
    """
    sound = all(isfinite(share) and share >= 0 for share in mix) and sum(mix) > 0
    if mix and (len(mix) != n_sources or not sound):
        found = ":".join(f"{share:g}" for share in mix)
        raise UsageError(f"--mix must give each of the {n_sources} sources its share, like 3:1, found {found}")


def require_distinct(paths: Sequence[Path]) -> None:
    """Makes sure that no file is named twice.

    Raises:
        UsageError: one is.
    """
    for index, path in enumerate(paths):
        if path.exists() and any(earlier.exists() and path.samefile(earlier) for earlier in paths[:index]):
            raise UsageError(f"{path} is named twice; each source counts once")


def nothing_for(path: Path) -> CallamaError:
    """What is said of a source that is to have a share and has nothing to give."""
    return CallamaError(f"{path} has no conversation that can be used: leave it and its share out of --mix")


class Joined:
    """The records of several files in their order, counted from 0 across all of them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Opens the files.

        Raises:
            UsageError: a file is missing, or named twice.
        """
        self.paths = tuple(paths)
        require_distinct(self.paths)
        self._scans = [Scan(path) for path in paths]
        self._starts: list[int] = []
        self._read = 0

    def __iter__(self) -> Iterator[tuple[Path, Iterator[Record]]]:
        for path, scan in zip(self.paths, self._scans, strict=True):
            self._starts.append(self._read)
            yield path, map(self._counted, scan)

    def _counted(self, record: Record) -> Record:
        self._read += 1
        return record

    @property
    def counts(self) -> list[int]:
        """How many records each source had, when all were read."""
        ends = [*self._starts[1:], self._read]
        return [end - start for start, end in zip(self._starts, ends, strict=True)]

    def source_of(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """The source, counted from 0, of each record that was read."""
        return np.searchsorted(self._starts, records, "right") - 1

    def place(self, record: int) -> tuple[Path, int]:
        """The file of a record that was read, and its number there."""
        source = bisect_right(self._starts, record) - 1
        return self.paths[source], record - self._starts[source]


def thinned(paths: Sequence[Path], source: NDArray[np.int64], mix: Sequence[float], seed: int) -> NDArray[np.bool_]:
    """Which conversations stay so that the sources ``paths`` have the shares of ``mix``.

    ``source`` has the number of its source for each conversation, the result a truth value.

    Raises:
        CallamaError: a source that is to have a share has no conversation.
    """
    stays = np.ones(len(source), np.bool_)
    if not mix:
        return stays
    members = [np.flatnonzero(source == index) for index in range(len(mix))]
    for path, share, rows in zip(paths, mix, members, strict=True):
        if share and not len(rows):
            raise nothing_for(path)
    scale = min(len(rows) / share for share, rows in zip(mix, members, strict=True) if share)
    for index, (share, rows) in enumerate(zip(mix, members, strict=True)):
        lots = bytearray()
        for number in range(len(rows)):
            lots += hashlib.blake2b(f"{seed}:{index}:{number}".encode(), digest_size=8).digest()
        drawn = np.argsort(np.frombuffer(lots, ">u8"), kind="stable")
        # A product that should be a whole number may fall a rounding error short of it.
        stays[rows[drawn[int(share * scale + 1e-9) :]]] = False
    return stays
