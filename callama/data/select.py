"""What only a view of the whole data can decide: duplicates, over-represented phrasings, the mixture.

Works on the small numbers that ``fingerprint`` made of each record, a column at a time, so that the
memory it takes is less than 200 bytes a record however long the records are. The first of equals is
kept; who is thinned out is drawn by the seed. A signature is read from disk only to confirm a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callama.data.fingerprint import FEATURES, N_BANDS
from callama.data.minhash import SIMILAR, SignatureFile, mixed
from callama.data.mix import nothing_for
from callama.data.reasons import Drop
from callama.data.work import Rules

Indices = NDArray[np.int64]
CHUNK_ROWS = 1 << 15
VERDICTS: tuple[Drop | None, ...] = (None, Drop.EXACT_DUPLICATE, Drop.NEAR_DUPLICATE, Drop.PHRASING, Drop.OVER_MIX)


class Selection:
    """The verdict on each record: ``verdict`` indexes ``VERDICTS``, ``twin`` is the earlier record
    that a duplicate repeats (-1: none). Records that were dropped before stay as they are."""

    def __init__(self, features: Path, signatures: Path, rules: Rules, mix: Mapping[Path, float]) -> None:
        """Decides. ``mix`` has the share of each source, in their order; it may be empty.

        Raises:
            CallamaError: nothing of a source that is to have a share was kept.
        """
        self._features, self._signatures, self._rules = features, SignatureFile(signatures), rules
        self.kept = self._column("kept")
        self.line_bytes = self._column("line_bytes")
        self.verdict = np.zeros(len(self.kept), np.uint8)
        self.twin = np.full(len(self.kept), -1, np.int64)
        if rules.remove_duplicates:
            self._drop_exact()
            self._drop_near()
        if rules.max_per_phrasing:
            alive = self._alive()
            keys = self._column("phrasing")[alive]
            self._drop_beyond(alive, keys, np.full(len(alive), rules.max_per_phrasing), Drop.PHRASING)
        if mix:
            self._mix(mix)

    def _chunks(self) -> Iterator[NDArray[np.void]]:
        with self._features.open("rb") as file:
            while len(chunk := np.fromfile(file, FEATURES, CHUNK_ROWS)):
                yield chunk

    def _column(self, name: str, part: int | None = None) -> NDArray[np.generic]:
        columns = [chunk[name] if part is None else chunk[name][:, part] for chunk in self._chunks()]
        return np.concatenate([np.ascontiguousarray(c) for c in columns]) if columns else np.zeros(0, FEATURES[name])

    def _alive(self) -> Indices:
        return np.flatnonzero(self.kept.astype(np.bool_) & (self.verdict == 0))

    def _drop(self, rows: Indices, reason: Drop) -> None:
        self.verdict[rows] = VERDICTS.index(reason)

    def _drop_exact(self) -> None:
        alive = self._alive()
        half, other_half = (self._column("exact", part)[alive] for part in (0, 1))
        _, first, group = np.unique(half, return_index=True, return_inverse=True)
        first = first[group]
        same = (first != np.arange(len(alive))) & (other_half == other_half[first])
        self.twin[alive[same]] = alive[first[same]]
        self._drop(alive[same], Drop.EXACT_DUPLICATE)

    def _drop_near(self) -> None:
        alive = self._alive()
        pairs = np.unique(np.concatenate([self._similar_in_band(alive, band) for band in range(N_BANDS)]), axis=0)
        for row, earlier in pairs.tolist():
            if self.twin[row] >= 0:
                continue
            # An earlier row that is a duplicate itself stands for the one that it repeats, if that is alike too.
            original = int(self.twin[earlier]) if self.twin[earlier] >= 0 else earlier
            if original == earlier or self._similar(np.array([[row, original]]))[0]:
                self.twin[row] = original
                self._drop(np.array([row]), Drop.NEAR_DUPLICATE)

    def _similar_in_band(self, alive: Indices, band: int) -> Indices:
        """Pairs (row, earlier row) that share a band and are alike: each row is held against the first
        row of its bucket and the one before it."""
        keys = self._column("bands", band)[alive]
        order = np.argsort(keys, kind="stable")
        in_order = keys[order]
        opens = np.ones(len(order), np.bool_)
        opens[1:] = in_order[1:] != in_order[:-1]
        first = np.maximum.accumulate(np.where(opens, np.arange(len(order)), 0))
        rows = alive[order]
        later = np.flatnonzero(~opens)
        pairs = np.concatenate([np.stack([rows[later], rows[other]], 1) for other in (first[later], later - 1)])
        pairs = np.unique(pairs, axis=0)
        parts = [pairs[i : i + CHUNK_ROWS] for i in range(0, len(pairs), CHUNK_ROWS)]
        return np.concatenate([np.zeros((0, 2), np.int64), *(part[self._similar(part)] for part in parts)])

    def _similar(self, pairs: Indices) -> NDArray[np.bool_]:
        one, other = (self._signatures[pairs[:, side]] for side in (0, 1))
        return np.asarray((one == other).mean(axis=1) >= SIMILAR)

    def _drop_beyond(self, rows: Indices, keys: NDArray[np.generic], limits: Indices, reason: Drop) -> None:
        """Keeps at most ``limits`` rows of each key: those that the seed draws first."""
        seed = mixed(np.array([self._rules.seed], np.int64).view(np.uint64))
        lot = mixed(self._column("exact", 0)[rows].astype(np.uint64) ^ seed)
        order = np.lexsort((rows, lot, keys))
        in_order = keys[order]
        opens = np.ones(len(order), np.bool_)
        opens[1:] = in_order[1:] != in_order[:-1]
        place = np.arange(len(order)) - np.maximum.accumulate(np.where(opens, np.arange(len(order)), 0))
        self._drop(rows[order[place >= limits[order]]], reason)

    def _mix(self, mix: Mapping[Path, float]) -> None:
        """Thins the sources to the ratio; the one that is scarcest for its share is kept whole."""
        ratio = np.array([*mix.values()], np.float64)
        alive = self._alive()
        source = self._column("source")[alive].astype(np.int64)
        counts = np.bincount(source, minlength=len(ratio))
        wanted = ratio > 0
        for path, share, count in zip(mix, ratio, counts, strict=True):
            if share and not count:
                raise nothing_for(path)
        scale = (counts[wanted] / ratio[wanted]).min()
        limits = np.floor(ratio * scale + 1e-9).astype(np.int64)
        self._drop_beyond(alive, source, limits[source], Drop.OVER_MIX)
