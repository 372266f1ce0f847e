"""Cleaning as a whole: raw records in, canonical conversations out, everything else in quarantine.

Two passes. The first cleans record by record, in as many processes as there are workers, and stages
the outcome on disk; the second decides what needs a view of the whole (``select``) and writes. Three
files appear together when all is done: the output, ``OUT.quarantine.jsonl`` and ``OUT.report.json``.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from callama import __version__
from callama.common.errors import UsageError
from callama.common.files import atomic_file
from callama.common.lock import is_running
from callama.common.parallel import available_cores, ordered_map
from callama.common.progress import Meter
from callama.contract.messages import Conversation
from callama.data.formats.registry import FORMATS
from callama.data.grounding import audit
from callama.data.mix import require_distinct, require_shares
from callama.data.quarantine import Reason
from callama.data.records import Record, Scan
from callama.data.select import VERDICTS, Selection
from callama.data.sources import PACKED_SUFFIXES, told_apart
from callama.data.tally import Tally
from callama.data.work import Batch, Rules, clean_batch

# Called with the row's number, where it stood, and why it was dropped.
OnDrop = Callable[[int, str, str], None]
BATCH_ROWS = 256
BATCH_CHARS = 1 << 20


@dataclass(frozen=True)
class CleanResult:
    """Where everything went, and the counts."""

    sources: tuple[Path, ...]
    out: Path
    quarantine: Path
    report: Path
    tally: Tally
    rules: Rules
    workers: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report's form."""
        return {
            "callama": __version__,
            "sources": [{"file": str(source), "bytes": source.stat().st_size} for source in self.sources],
            "out": str(self.out),
            "quarantine": str(self.quarantine),
            "rules": asdict(self.rules),
            "workers": self.workers,
            "seconds": round(self.seconds, 3),
            **self.tally.to_dict(),
        }


def clean_files(
    sources: Sequence[Path],
    out: Path,
    rules: Rules | None = None,
    *,
    format_name: str | None = None,
    mix: Sequence[float] = (),
    workers: int | None = None,
    on_drop: OnDrop | None = None,
) -> CleanResult:
    """Cleans files of records into one.

    ``out`` becomes a JSON list with one record a line where its name ends in ``.json``, else JSON
    Lines. ``format_name`` is one of ``FORMATS``; None: each record shows its own. ``mix`` gives the
    shares of the sources in the output; without it everything is taken. Output and quarantine have
    the same bytes for any number of ``workers``.

    Raises:
        UsageError: a source is missing, ``out`` is a folder or a source, an option makes no sense.
        CallamaError: a source is empty, of no known form, or breaks off; nothing is written then.
    """
    rules = rules or Rules()
    workers = available_cores() if workers is None else workers
    _check_options(sources, rules, format_name, mix, workers)
    scans = [Scan(source) for source in sources]
    if out.is_dir():
        raise UsageError(f"{out} is a folder; expected a file to write")
    if out.suffix.lower() == ".parquet":
        raise UsageError(f"{out}: what is written is JSON Lines, not Parquet; choose a name such as {out.stem}.jsonl")
    if out.suffix.lower() in PACKED_SUFFIXES:
        raise UsageError(f"{out}: what is written is not packed; choose a name such as {out.stem}")
    quarantine, report = out.with_name(out.name + ".quarantine.jsonl"), out.with_name(out.name + ".report.json")
    for path in (out, quarantine, report):
        if path.is_dir():
            raise UsageError(f"{path} is a folder; expected a file to write")
        if any(path.exists() and path.samefile(source) for source in sources):
            raise UsageError(f"{path} is the source itself; choose another file to write")
    tally = Tally()
    start = time.monotonic()
    with ExitStack() as stack:
        # Files appear in reverse order: the output last, when its companions are in place.
        out_path, quarantine_path, report_path = (
            stack.enter_context(atomic_file(p)) for p in (out, quarantine, report)
        )
        staging = stack.enter_context(_staging(out_path.parent, out.name))
        lines, features, signatures = (staging / name for name in ("lines", "features", "signatures"))
        names = told_apart(sources) if len(sources) > 1 else [""]
        batches = _batches(scans, names, format_name)
        with ExitStack() as staged, Meter("clean", None, "rows") as meter:
            to_lines, to_features, to_signatures = (
                staged.enter_context(path.open("wb")) for path in (lines, features, signatures)
            )
            for cleaned in ordered_map(partial(clean_batch, rules=rules), batches, workers):
                to_lines.write(cleaned.lines)
                to_features.write(cleaned.features)
                to_signatures.write(cleaned.signatures)
                tally.add(cleaned.tally)
                if on_drop is not None:
                    for drop in cleaned.drops:
                        on_drop(*drop)
                meter.total = round(tally.read * len(sources) / max(cleaned.progress, 1e-9))
                meter.advance(cleaned.tally.read, f"{tally.dropped:,} dropped")
        selection = Selection(features, signatures, rules, dict(zip(sources, mix, strict=False)))
        with _Output(out_path, as_list=out.suffix == ".json") as to_out, quarantine_path.open("wb") as to_quarantine:
            _write(lines, selection, to_out, to_quarantine, tally, on_drop)
        result = CleanResult(tuple(sources), out, quarantine, report, tally, rules, workers, time.monotonic() - start)
        text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n"
        report_path.write_text(text, encoding="utf-8", newline="\n")
    return result


@contextmanager
def _staging(folder: Path, name: str) -> Iterator[Path]:
    """A folder for what waits, beside the output: what is as large as the output belongs on its disk. What
    earlier runs for this output left there, whose processes are gone (killed), is removed."""
    prefix = f".{name}.clean-{platform.node()}-"
    for left in folder.glob(f"{glob.escape(prefix)}*"):
        pid = left.name.removeprefix(prefix).partition("-")[0]
        if pid.isdecimal() and not is_running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=folder) as made:
        yield Path(made)


def _check_options(
    sources: Sequence[Path], rules: Rules, format_name: str | None, mix: Sequence[float], workers: int
) -> None:
    if format_name is not None and format_name not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, found {format_name!r}")
    if workers < 1:
        raise UsageError(f"--workers must be at least 1, found {workers}")
    if not -(2**63) <= rules.seed < 2**63:
        raise UsageError(f"--seed must be a whole number of at most 63 bits, found {rules.seed}")
    if rules.max_per_phrasing < 0:
        raise UsageError(f"--max-per-phrasing must be 0 (no limit) or more, found {rules.max_per_phrasing}")
    require_shares(mix, len(sources))
    require_distinct(sources)


def _batches(scans: Sequence[Scan], names: Sequence[str], format_name: str | None) -> Iterator[Batch]:
    for index, (scan, name) in enumerate(zip(scans, names, strict=True)):
        records: list[Record] = []
        chars = 0
        for record in scan:
            records.append(record)
            chars += record.chars
            if len(records) == BATCH_ROWS or chars >= BATCH_CHARS:
                yield Batch(records, index, name, format_name, index + scan.progress)
                records, chars = [], 0
        if records:
            yield Batch(records, index, name, format_name, index + 1)


def _write(
    lines: Path,
    selection: Selection,
    to_out: _Output,
    to_quarantine: BinaryIO,
    tally: Tally,
    on_drop: OnDrop | None,
) -> None:
    """Sends the staged lines where the selection wants them, in their order: as blocks, where many go the same way."""
    way = np.where(selection.kept, selection.verdict.astype(np.int16), -1)
    starts = np.union1d(np.flatnonzero(np.diff(way, prepend=-2)), np.arange(0, len(way), BATCH_ROWS))
    sizes = np.add.reduceat(selection.line_bytes, starts, dtype=np.int64)
    with lines.open("rb") as staged:
        for start, size, verdict in zip(starts.tolist(), sizes.tolist(), way[starts].tolist(), strict=True):
            block = staged.read(size)
            if verdict < 0:
                to_quarantine.write(block)
            elif (reason := VERDICTS[verdict]) is None:
                to_out.add(block)
            else:
                for index, line in enumerate(block.splitlines(), start):
                    conversation = Conversation.from_dict(json.loads(line))
                    tally.drop_after_all(conversation, audit(conversation), reason)
                    entry = _entry(conversation, reason, int(selection.twin[index]))
                    to_quarantine.write(json.dumps(entry).encode() + b"\n")
                    if on_drop is not None:
                        on_drop(entry["row"], entry["where"], f"{reason}: {entry['detail']}")


def _entry(conversation: Conversation, reason: Reason, twin: int) -> dict[str, Any]:
    labels = conversation.labels
    said = next(message.content or "" for message in conversation.messages if message.role == "user")
    entry = {"file": labels["file"]} if "file" in labels else {}
    detail = reason.sentence if twin < 0 else f"repeats record {twin} of all that were read"
    entry |= {"row": labels["row"], "where": f"row {labels['row']}", "reason": reason.value, "detail": detail}
    return {**entry, "fragment": said[:200], "conversation": conversation.to_dict()}


class _Output:
    """JSON Lines, or a JSON list with one record a line (``[``, records, ``]``)."""

    def __init__(self, path: Path, as_list: bool) -> None:
        self._file, self._as_list, self._empty = path.open("wb"), as_list, True

    def __enter__(self) -> _Output:
        return self

    def add(self, lines: bytes) -> None:
        """Adds records, each with a newline behind it and none inside."""
        if self._as_list:
            lines = (b"[\n" if self._empty else b",\n") + lines[:-1].replace(b"\n", b",\n")
        self._file.write(lines)
        self._empty = False

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._as_list:
            self._file.write(b"[]\n" if self._empty else b"\n]\n")
        self._file.close()
