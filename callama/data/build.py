"""Conversations to a built data set: rendered and checked in parallel, split, written, measured.

The sources are read once. Rendered rows wait in a temporary file until all are known and the split
can be drawn; then they are copied to their side. What cannot be kept stands in
``quarantine.jsonl`` with its reason.
"""

from __future__ import annotations

import glob
import os
import platform
import shutil
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, sha256_file, write_json
from callama.common.lock import is_running
from callama.common.parallel import ordered_map
from callama.common.places import require_apart, require_kind
from callama.common.progress import Meter
from callama.contract import CONTRACT_VERSION, tool_uses
from callama.data.chunk import CHUNK_SCHEMA, Drop, Settings, chunks, render_chunk, renderer_of
from callama.data.counts import Counts
from callama.data.dataset import METADATA, SCHEMA
from callama.data.minhash import SIMILAR, SignatureFile
from callama.data.mix import Joined, require_shares, thinned
from callama.data.near import near_groups, near_pairs
from callama.data.reasons import Repair
from callama.data.sources import told_apart
from callama.data.split import LEFT_OUT, OTHER_LABEL, OVER_MIX, PLACES, SIDES, UNLABELLED, Rows, Side, Sides, split
from callama.text.render import TrainOn

QUARANTINE, KIND = "quarantine.jsonl", "built data set"
# Says in an unfinished folder which process writes it.
_OWNER = "spool.owner"


@dataclass
class _Quarantine:
    """The file of dropped conversations, and their number by source and reason."""

    file: IO[str]
    joined: Joined
    names: Mapping[Path, str]
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
        self.file.write(drop._replace(record=number).line(self.names[path] if len(self.names) > 1 else ""))


class _Columns:
    """What must be known of each row of the temporary file, in order, to decide where it goes: a few numbers."""

    def __init__(self) -> None:
        self.n_without_thoughts = 0
        self._names: dict[str, int] = {}
        self._functions, self._counts, self._labels, self._records = array("i"), array("i"), array("b"), array("q")

    def add(self, rows: Any) -> None:
        """Takes up a record batch of ``CHUNK_SCHEMA``."""
        shown = rows["functions"].flatten().dictionary_encode()
        numbers = [self._names.setdefault(name, len(self._names)) for name in shown.dictionary.to_pylist()]
        self._functions.frombytes(np.array(numbers, np.int32)[shown.indices].tobytes())
        self._counts.frombytes(pa.compute.list_value_length(rows["functions"]).to_numpy().tobytes())
        sides = pa.compute.index_in(rows["label"], pa.array(SIDES)).fill_null(OTHER_LABEL)
        sides = pa.compute.if_else(rows["label"].is_null(), UNLABELLED, sides)
        self._labels.frombytes(sides.to_numpy().astype(np.int8).tobytes())
        self._records.frombytes(rows["source"].to_numpy().tobytes())

    @property
    def records(self) -> NDArray[np.int64]:
        """The rows' numbers in the joined sources."""
        return np.frombuffer(self._records, np.int64)

    def rows(self) -> Rows:
        """For the split; groups of near-duplicates are not known yet."""
        names = sorted(self._names)
        place = np.empty(len(names), np.int32)
        place[[self._names[name] for name in names]] = np.arange(len(names))
        bounds = np.append(0, np.cumsum(np.frombuffer(self._counts, np.int32), dtype=np.int64))
        functions = place[np.frombuffer(self._functions, np.int32)]
        labels = np.frombuffer(self._labels, np.int8)
        return Rows(names, functions, bounds, np.zeros(len(labels), np.uint64), labels)


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
    require_apart(save_dir, *sources)
    require_apart(save_dir, tokenizer_file, what="where the tokenizer is")
    require_kind(save_dir, KIND)
    renderer_of.cache_clear()  # the file may have changed since an earlier build
    renderer = renderer_of(tokenizer_file)
    joined = Joined(sources)  # a missing file is told before any work
    settings = Settings(tokenizer_file, train_on, max_tokens)
    facts = {"kind": KIND, "dialect": tool_uses.NAME, "tokenizer_sha256": renderer.tokenizer.sha256}
    _remove_left(save_dir)
    with atomic_folder(save_dir, facts) as folder:
        owner, spool, signatures = folder / _OWNER, folder / "spool.arrow", folder / "spool.signatures"
        owner.write_text(f"{os.getpid()} {platform.node()}", encoding="utf-8")
        with (folder / QUARANTINE).open("w", encoding="utf-8") as file:
            quarantine = _Quarantine(file, joined, dict(zip(sources, told_apart(sources), strict=True)))
            columns = _render(joined, settings, spool, signatures, quarantine, workers)
            signed = SignatureFile(signatures)
            stays = thinned(sources, joined.source_of(columns.records), mix, seed)
            method, sides = _sides(columns.rows(), signed, stays, val_ratio, seed)
            tallies = _distribute(spool, sides, folder, quarantine)
        if not tallies["train"].lengths:
            raise CallamaError(f"no conversation is left to train on; dropped: {dict(quarantine.counts)}")
        metadata: dict[str, Any] = {
            "contract_version": CONTRACT_VERSION,
            "dialect": tool_uses.NAME,
            "markup": renderer.markup.name,
            "tokenizer_file": str(renderer.tokenizer.file),
            "tokenizer_sha256": renderer.tokenizer.sha256,
            "sources": _sources(joined, columns.records, sides, quarantine),
            "mix": list(mix),
            "seed": seed,
            "val_ratio": val_ratio,
            "train_on": train_on,
            "max_tokens": max_tokens,
            "read": sum(joined.counts),
            "dropped": dict(sorted(quarantine.counts.items())),
            Repair.REASONING.value: columns.n_without_thoughts,
            "split": method,
            "leakage": _leakage(tallies, sides, signed),
            **{side: tallies[side].report() for side in SIDES},
        }
        for temporary in (owner, spool, signatures):
            temporary.unlink()
        write_json(folder / METADATA, metadata)
    return metadata


def _remove_left(save_dir: Path) -> None:
    """Removes what earlier builds to this place left beside it, whose processes were killed on this machine."""
    place = Path(os.path.realpath(save_dir))
    for owner in place.parent.glob(f".{glob.escape(place.name[:50])}.*.tmp/{_OWNER}"):
        with suppress(OSError, ValueError, OverflowError):
            pid, _, machine = owner.read_text(encoding="utf-8").partition(" ")
            if machine == platform.node() and not is_running(int(pid)):
                shutil.rmtree(owner.parent, ignore_errors=True)


def _render(
    joined: Joined, settings: Settings, spool: Path, signatures: Path, quarantine: _Quarantine, workers: int
) -> _Columns:
    """Renders everything into the temporary files."""
    columns = _Columns()
    with ExitStack() as stack:
        writer = stack.enter_context(pa.ipc.new_file(stack.enter_context(pa.OSFile(str(spool), "wb")), CHUNK_SCHEMA))
        to_signatures = stack.enter_context(signatures.open("wb"))
        meter = stack.enter_context(Meter("building", None, "conversations"))
        for batch, drops, signed, n_without_thoughts in ordered_map(
            partial(render_chunk, settings), chunks(joined), workers
        ):
            writer.write_batch(batch)
            for drop in drops:
                quarantine.add(drop)
            columns.add(batch)
            columns.n_without_thoughts += n_without_thoughts
            signed.tofile(to_signatures)
            meter.advance(batch.num_rows + len(drops), f"{quarantine.counts.total():,} dropped")
    return columns


def _sides(
    rows: Rows, signatures: SignatureFile, stays: NDArray[np.bool_], val_ratio: float, seed: int
) -> tuple[str, Sides]:
    """How the rows that stay were split, and where every row goes."""
    near = near_groups(signatures, np.flatnonzero(stays))
    division = split(replace(rows.where(stays), near=near), val_ratio, seed)
    sides = np.full(len(stays), OVER_MIX, np.int8)
    sides[stays] = division.sides
    return division.method, sides


def _distribute(spool: Path, sides: Sides, folder: Path, quarantine: _Quarantine) -> dict[Side, Counts]:
    """Copies every row of the temporary file to its side's file, or to quarantine."""
    tallies = {side: Counts() for side in SIDES}
    with ExitStack() as stack:
        # Read, not memory-mapped: mapped pages would count as this process's memory. The texts are most of the file
        # and wanted of few rows.
        reader, texts = (
            pa.ipc.open_file(
                stack.enter_context(pa.OSFile(str(spool))),
                options=pa.ipc.IpcReadOptions(included_fields=[CHUNK_SCHEMA.names.index(name) for name in names]),
            )
            for names in (SCHEMA.names, ["source", "conversation"])
        )
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
            for number, side in enumerate(SIDES):
                rows = batch.filter(pa.array(here == number))
                if rows.num_rows:
                    writers[side].write_batch(rows)
                    tallies[side].add(rows)
            for reason, detail in LEFT_OUT.items():
                chosen = here == PLACES.index(reason)
                if not chosen.any():
                    continue
                left_out = texts.get_batch(index).filter(pa.array(chosen))
                for record, text in zip(left_out["source"], left_out["conversation"], strict=True):
                    quarantine.add(Drop(record.as_py(), reason, detail, text.as_py()))
    return tallies


def _sources(joined: Joined, records: NDArray[np.int64], sides: Sides, quarantine: _Quarantine) -> list[dict[str, Any]]:
    """Each source with its hash and where its records went."""
    of_source = joined.source_of(records)
    return [
        {
            "file": quarantine.names[path],
            "sha256": sha256_file(path),
            "read": read,
            **{side: int(((of_source == index) & (sides == number)).sum()) for number, side in enumerate(SIDES)},
            "dropped": {why: n for (file, why), n in sorted(quarantine.by_source.items()) if file == path},
        }
        for index, (path, read) in enumerate(zip(joined.paths, joined.counts, strict=True))
    ]


def _leakage(tallies: dict[Side, Counts], sides: Sides, signatures: SignatureFile) -> dict[str, Any]:
    """What of validation was seen in training: measured on what was written, not taken from the split."""
    return {
        "validation_functions_seen_in_training": len(
            tallies["train"].functions.keys() & tallies["validation"].functions.keys()
        ),
        "near_duplicate_pairs_across": near_pairs(signatures, sides),
        "near_duplicate_similarity": SIMILAR,
    }
