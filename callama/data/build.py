"""Conversations to a built data set: rendered and checked in parallel, split, written, measured.

The sources are read once. Rendered rows wait in a temporary file until all are known and the split
can be drawn; then they are copied to their side. What cannot be kept stands in
``quarantine.jsonl`` with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, sha256_file, write_json
from callama.common.parallel import ordered_map
from callama.common.progress import Meter
from callama.contract import CONTRACT_VERSION, tool_uses
from callama.data.chunk import CHUNK_SCHEMA, Drop, Settings, chunks, render_chunk, renderer_of
from callama.data.counts import Counts
from callama.data.dataset import METADATA, SCHEMA
from callama.data.minhash import SIMILAR, SignatureFile
from callama.data.mix import Joined, require_shares, thinned
from callama.data.near import near_groups, near_pairs
from callama.data.split import LEFT_OUT, SIDES, Row, Side, split
from callama.text.render import TrainOn

QUARANTINE = "quarantine.jsonl"


@dataclass
class _Quarantine:
    """The file of dropped conversations, and their number by source and reason."""

    file: IO[str]
    joined: Joined
    by_source: Counter[tuple[Path, str]] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[str]:
        """The number by reason."""
        counts: Counter[str] = Counter()
        for (_, reason), number in self.by_source.items():
            counts[reason] += number
        return counts

    def add(self, drop: Drop) -> None:
        """Counts one and writes it down; with several sources, by its number in its own."""
        path, number = self.joined.place(drop.record)
        self.by_source[path, drop.reason] += 1
        several = len(self.joined.paths) > 1
        self.file.write(drop._replace(record=number).line(path.name if several else ""))


@dataclass
class _Spooled:
    """What must be known of each row of the temporary file, in order, to decide where it goes;
    ``records`` are their numbers in the joined sources."""

    functions: list[frozenset[str]]
    labels: list[str | None]
    records: NDArray[np.int64]
    signatures: SignatureFile


def build(
    sources: Sequence[Path],
    tokenizer_file: Path,
    save_dir: Path,
    *,
    mix: Sequence[float] = (),
    val_ratio: float = 0.15,
    seed: int = 3,
    train_on: TrainOn = "all",
    max_tokens: int = 8192,
    workers: int = 1,
) -> dict[str, Any]:
    """Builds ``train.arrow``, ``validation.arrow``, ``metadata.json`` and ``quarantine.jsonl``; returns the metadata.

    ``mix`` gives the shares of the sources in what is split (``mix.thinned``); without it everything
    is taken. The files are the same for any number of ``workers`` (processes).

    Raises:
        UsageError: a file is missing or a number is out of its range.
        CallamaError: a record is not a conversation (file and record named), or nothing is left to train on.
    """
    if not 0 <= val_ratio < 1:
        raise UsageError(f"--val-ratio must be at least 0 and below 1, found {val_ratio}")
    if max_tokens < 1 or workers < 1:
        raise UsageError(f"--max-tokens and --workers must be at least 1, found {max_tokens} and {workers}")
    require_shares(mix, len(sources))
    renderer_of.cache_clear()  # the file may have changed since an earlier build
    renderer = renderer_of(tokenizer_file)
    joined = Joined(sources)  # a missing file is told before any work
    settings = Settings(tokenizer_file, train_on, max_tokens)
    facts = {"kind": "built data set", "dialect": tool_uses.NAME, "tokenizer_sha256": renderer.tokenizer.sha256}
    with atomic_folder(save_dir, facts) as folder:
        spool, signatures = folder / "spool.arrow", folder / "spool.signatures"
        with (folder / QUARANTINE).open("w", encoding="utf-8") as file:
            quarantine = _Quarantine(file, joined)
            spooled = _render(joined, settings, spool, signatures, quarantine, workers)
            stays = thinned(sources, joined.source_of(spooled.records), mix, seed)
            method, sides = _sides(spooled, stays, val_ratio, seed)
            tallies = _distribute(spool, sides, folder, quarantine)
        if not tallies["train"].lengths:
            raise CallamaError(f"no conversation is left to train on; dropped: {dict(quarantine.counts)}")
        metadata: dict[str, Any] = {
            "contract_version": CONTRACT_VERSION,
            "dialect": tool_uses.NAME,
            "markup": renderer.markup.name,
            "tokenizer_file": str(renderer.tokenizer.file),
            "tokenizer_sha256": renderer.tokenizer.sha256,
            "sources": _sources(joined, spooled, sides, quarantine),
            "mix": list(mix),
            "seed": seed,
            "val_ratio": val_ratio,
            "train_on": train_on,
            "max_tokens": max_tokens,
            "read": sum(joined.counts),
            "dropped": dict(sorted(quarantine.counts.items())),
            "split": method,
            "leakage": _leakage(tallies, sides, spooled.signatures),
            **{side: tallies[side].report() for side in SIDES},
        }
        spool.unlink()
        signatures.unlink()
        write_json(folder / METADATA, metadata)
    return metadata


def _render(
    joined: Joined, settings: Settings, spool: Path, signatures: Path, quarantine: _Quarantine, workers: int
) -> _Spooled:
    """Renders everything into the temporary files."""
    functions: list[frozenset[str]] = []
    labels: list[str | None] = []
    records: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    # Few different sets of functions stand in many conversations: each set is held once.
    known: dict[frozenset[str], frozenset[str]] = {}
    with ExitStack() as stack:
        writer = stack.enter_context(pa.ipc.new_file(stack.enter_context(pa.OSFile(str(spool), "wb")), CHUNK_SCHEMA))
        to_signatures = stack.enter_context(signatures.open("wb"))
        meter = stack.enter_context(Meter("building", None, "conversations"))
        for batch, drops, signed in ordered_map(partial(render_chunk, settings), chunks(joined), workers):
            writer.write_batch(batch)
            for drop in drops:
                quarantine.add(drop)
            sets = map(frozenset, batch["functions"].to_pylist())
            functions += [known.setdefault(names, names) for names in sets]
            labels += batch["label"].to_pylist()
            records.append(batch["source"].to_numpy())
            signed.tofile(to_signatures)
            meter.advance(batch.num_rows + len(drops), f"{quarantine.counts.total():,} dropped")
    return _Spooled(functions, labels, np.concatenate(records), SignatureFile(signatures))


def _sides(spooled: _Spooled, stays: NDArray[np.bool_], val_ratio: float, seed: int) -> tuple[str, NDArray[np.object_]]:
    """How the rows that stay were split, and the side or the reason of every row."""
    groups = near_groups(spooled.signatures, np.flatnonzero(stays))
    rows = map(Row, compress(spooled.functions, stays), groups, compress(spooled.labels, stays))
    division = split(list(rows), val_ratio, seed)
    sides = np.full(len(stays), "over_mix", dtype=object)
    sides[stays] = division.sides
    return division.method, sides


def _distribute(spool: Path, sides: NDArray[np.object_], folder: Path, quarantine: _Quarantine) -> dict[Side, Counts]:
    """Copies every row of the temporary file to its side's file, or to quarantine."""
    tallies = {side: Counts() for side in SIDES}
    with ExitStack() as stack:
        # Read, not memory-mapped: mapped pages would count as this process's memory.
        reader = pa.ipc.open_file(stack.enter_context(pa.OSFile(str(spool))))
        writers = {
            side: stack.enter_context(
                pa.ipc.new_file(stack.enter_context(pa.OSFile(str(folder / f"{side}.arrow"), "wb")), SCHEMA)
            )
            for side in SIDES
        }
        start = 0
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            here = sides[start : start + batch.num_rows]
            start += batch.num_rows
            for side in SIDES:
                rows = batch.select(SCHEMA.names).filter(pa.array(here == side))
                if rows.num_rows:
                    writers[side].write_batch(rows)
                    tallies[side].add(rows)
            for reason, detail in LEFT_OUT.items():
                left_out = batch.filter(pa.array(here == reason))
                for record, text in zip(left_out["source"], left_out["conversation"], strict=True):
                    quarantine.add(Drop(record.as_py(), reason, detail, text.as_py()))
    return tallies


def _sources(
    joined: Joined, spooled: _Spooled, sides: NDArray[np.object_], quarantine: _Quarantine
) -> list[dict[str, Any]]:
    """Each source with its hash and where its records went."""
    of_source = joined.source_of(spooled.records)
    return [
        {
            "file": path.name,
            "sha256": sha256_file(path),
            "read": read,
            **{side: int(((of_source == index) & (sides == side)).sum()) for side in SIDES},
            "dropped": {why: n for (file, why), n in sorted(quarantine.by_source.items()) if file == path},
        }
        for index, (path, read) in enumerate(zip(joined.paths, joined.counts, strict=True))
    ]


def _leakage(tallies: dict[Side, Counts], sides: NDArray[np.object_], signatures: SignatureFile) -> dict[str, Any]:
    """What of validation was seen in training: measured on what was written, not taken from the split."""
    number = {side: index for index, side in enumerate(SIDES)}
    side = np.array([number.get(side, -1) for side in sides], np.int8)
    return {
        "validation_functions_seen_in_training": len(
            tallies["train"].functions.keys() & tallies["validation"].functions.keys()
        ),
        "near_duplicate_pairs_across": near_pairs(signatures, side),
        "near_duplicate_similarity": SIMILAR,
    }
