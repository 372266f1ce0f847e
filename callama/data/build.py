"""Conversations to a built data set: rendered and checked in parallel, split, written, measured.

The sources are read once. Rendered rows wait in a temporary file until all are known and the split
can be drawn; then they are copied to their side. What cannot be kept stands in
``quarantine.jsonl`` with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, sha256_file, write_json
from callama.common.parallel import ordered_map
from callama.common.progress import Meter
from callama.contract import CONTRACT_VERSION, tool_uses
from callama.data.chunk import CHUNK_SCHEMA, Chunk, Drop, Settings, chunks, render_chunk, renderer_of, signatures_of
from callama.data.counts import Counts
from callama.data.dataset import METADATA, SCHEMA
from callama.data.minhash import PLACES, SIMILAR, Signatures
from callama.data.near import near_groups, near_pairs
from callama.data.records import Scan
from callama.data.split import LEFT_OUT, SIDES, Row, Side, Split, split
from callama.text.render import TrainOn

QUARANTINE = "quarantine.jsonl"


@dataclass
class _Quarantine:
    """The file of dropped conversations, and their number by reason."""

    file: IO[str]
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, drop: Drop) -> None:
        """Counts one and writes it down."""
        self.counts[drop.reason] += 1
        self.file.write(drop.line())


def build(
    sources: Sequence[Path],
    tokenizer_file: Path,
    save_dir: Path,
    *,
    val_ratio: float = 0.15,
    seed: int = 3,
    train_on: TrainOn = "all",
    max_tokens: int = 8192,
    workers: int = 1,
) -> dict[str, Any]:
    """Builds ``train.arrow``, ``validation.arrow``, ``metadata.json`` and ``quarantine.jsonl``; returns the metadata.

    The files are the same for any number of ``workers`` (processes).

    Raises:
        UsageError: a file is missing or a number is out of its range.
        CallamaError: a record is not a conversation (file and record named), or nothing is left to train on.
    """
    if not 0 <= val_ratio < 1:
        raise UsageError(f"--val-ratio must be at least 0 and below 1, found {val_ratio}")
    if max_tokens < 1 or workers < 1:
        raise UsageError(f"--max-tokens and --workers must be at least 1, found {max_tokens} and {workers}")
    renderer_of.cache_clear()  # the file may have changed since an earlier build
    renderer = renderer_of(tokenizer_file)
    scans = [(source, Scan(source)) for source in sources]  # a missing file is told before any work
    settings = Settings(tokenizer_file, train_on, max_tokens)
    facts = {"kind": "built data set", "dialect": tool_uses.NAME, "tokenizer_sha256": renderer.tokenizer.sha256}
    with atomic_folder(save_dir, facts) as folder:
        spool = folder / "spool.arrow"
        with (folder / QUARANTINE).open("w", encoding="utf-8") as file:
            quarantine = _Quarantine(file)
            rows, signatures = _render(chunks(scans), settings, spool, quarantine, workers)
            read = len(rows) + quarantine.counts.total()
            if not read:
                raise CallamaError(f"{', '.join(map(str, sources))}: no conversations; there is nothing to build")
            division = split(rows, val_ratio, seed)
            tallies = _distribute(spool, division, folder, quarantine)
        spool.unlink()
        if not tallies["train"].lengths:
            raise CallamaError(f"no conversation is left to train on; dropped: {dict(quarantine.counts)}")
        metadata: dict[str, Any] = {
            "contract_version": CONTRACT_VERSION,
            "dialect": tool_uses.NAME,
            "markup": renderer.markup.name,
            "tokenizer_file": str(renderer.tokenizer.file),
            "tokenizer_sha256": renderer.tokenizer.sha256,
            "sources": [{"file": s.name, "sha256": sha256_file(s)} for s in sources],
            "seed": seed,
            "val_ratio": val_ratio,
            "train_on": train_on,
            "max_tokens": max_tokens,
            "read": read,
            "dropped": dict(sorted(quarantine.counts.items())),
            "split": division.method,
            "leakage": _leakage(tallies, division, signatures),
            **{side: tallies[side].report() for side in SIDES},
        }
        write_json(folder / METADATA, metadata)
    return metadata


def _render(
    work: Iterator[Chunk], settings: Settings, spool: Path, quarantine: _Quarantine, workers: int
) -> tuple[list[Row], Signatures]:
    """Renders everything into the temporary file; returns what the split must know of each row, in order."""
    functions: list[frozenset[str]] = []
    labels: list[str | None] = []
    signatures: list[Signatures] = []
    # Few different sets of functions stand in many conversations: each set is held once.
    known: dict[frozenset[str], frozenset[str]] = {}
    with ExitStack() as stack:
        writer = stack.enter_context(pa.ipc.new_file(stack.enter_context(pa.OSFile(str(spool), "wb")), CHUNK_SCHEMA))
        meter = stack.enter_context(Meter("building", None, "conversations"))
        for batch, drops in ordered_map(partial(render_chunk, settings), work, workers):
            writer.write_batch(batch)
            for drop in drops:
                quarantine.add(drop)
            sets = map(frozenset, batch["functions"].to_pylist())
            functions += [known.setdefault(names, names) for names in sets]
            labels += batch["label"].to_pylist()
            signatures.append(signatures_of(batch))
            meter.advance(batch.num_rows + len(drops), f"{quarantine.counts.total():,} dropped")
    every = np.concatenate(signatures or [np.empty((0, PLACES), np.uint32)])
    return list(map(Row, functions, near_groups(every), labels)), every


def _distribute(spool: Path, division: Split, folder: Path, quarantine: _Quarantine) -> dict[Side, Counts]:
    """Copies every row of the temporary file to its side's file, or to quarantine."""
    tallies = {side: Counts() for side in SIDES}
    sides = np.array(division.sides, dtype=object)
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


def _leakage(tallies: dict[Side, Counts], division: Split, signatures: Signatures) -> dict[str, Any]:
    """What of validation was seen in training: measured on what was written, not taken from the split."""
    number = {side: index for index, side in enumerate(SIDES)}
    side = np.array([number.get(side, -1) for side in division.sides], np.int8)
    return {
        "validation_functions_seen_in_training": len(
            tallies["train"].functions.keys() & tallies["validation"].functions.keys()
        ),
        "near_duplicate_pairs_across": near_pairs(signatures, side),
        "near_duplicate_similarity": SIMILAR,
    }
