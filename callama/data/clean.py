"""Cleaning as a whole: raw rows in, canonical conversations out, everything else in quarantine.

Three files are written and appear together when all is done: the output, ``OUT.quarantine.jsonl``
with every dropped record, ``OUT.report.json`` with the counts. Records stream through one by one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from callama import __version__
from callama.common.errors import UsageError
from callama.common.files import atomic_file
from callama.common.progress import Meter
from callama.contract.messages import dump_line
from callama.data.glaive.rows import clean_row
from callama.data.quarantine import DropError, Tally, write_quarantined
from callama.data.records import Record, read_records

OnDrop = Callable[[Record, DropError], None]


@dataclass(frozen=True)
class CleanResult:
    """Where everything went, and the counts."""

    source: Path
    out: Path
    quarantine: Path
    report: Path
    tally: Tally
    remove_no_fc: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report's form."""
        return {
            "callama": __version__,
            "source": str(self.source),
            "source_bytes": self.source.stat().st_size,
            "out": str(self.out),
            "quarantine": str(self.quarantine),
            "remove_no_fc": self.remove_no_fc,
            "seconds": round(self.seconds, 3),
            **self.tally.to_dict(),
        }


def clean_file(source: Path, out: Path, *, remove_no_fc: bool = False, on_drop: OnDrop | None = None) -> CleanResult:
    """Cleans a file of raw glaive rows (``.json`` list or JSON Lines).

    ``out`` becomes a JSON list with one record a line where its name ends in ``.json``, else JSON
    Lines. ``on_drop`` hears of each dropped record. Cleaning draws nothing at random.

    Raises:
        UsageError: the source is missing, ``out`` is a folder or one of the files is the source.
        CallamaError: the source is empty, neither form, or breaks off; nothing is written then.
    """
    records = read_records(source)
    quarantine, report = out.with_name(out.name + ".quarantine.jsonl"), out.with_name(out.name + ".report.json")
    for path in (out, quarantine, report):
        if path.is_dir():
            raise UsageError(f"{path} is a folder; expected a file to write")
        if path.exists() and path.samefile(source):
            raise UsageError(f"{path} is the source itself; choose another file to write")
    tally = Tally()
    start = time.monotonic()
    with ExitStack() as stack:
        # Files appear in reverse order: the output last, when its companions are in place.
        out_file = stack.enter_context(_Output(stack.enter_context(atomic_file(out)), as_list=out.suffix == ".json"))
        dropped_to = stack.enter_context(_open(stack.enter_context(atomic_file(quarantine))))
        report_path = stack.enter_context(atomic_file(report))
        meter = stack.enter_context(Meter("clean", None, "rows"))
        for record in records:
            tally.read += 1
            try:
                conversation, repairs = clean_row(record, remove_no_fc=remove_no_fc)
            except DropError as error:
                tally.drops[error.reason] += 1
                write_quarantined(dropped_to, record, error)
                if on_drop is not None:
                    on_drop(record, error)
            else:
                out_file.add(dump_line(conversation))
                tally.kept += 1
                tally.with_calls += bool(conversation.called())
                tally.repaired += bool(repairs)
                tally.repairs.update(repairs)
            meter.advance(1, f"{tally.dropped:,} dropped")
        result = CleanResult(source, out, quarantine, report, tally, remove_no_fc, time.monotonic() - start)
        with _open(report_path) as file:
            file.write(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
    return result


def _open(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", newline="\n")


class _Output:
    """JSON Lines, or a JSON list with one record a line (``[``, records, ``]``)."""

    def __init__(self, path: Path, as_list: bool) -> None:
        self._file, self._as_list, self._count = _open(path), as_list, 0

    def __enter__(self) -> _Output:
        return self

    def add(self, line: str) -> None:
        if self._as_list:
            self._file.write(",\n" if self._count else "[\n")
        self._file.write(line if self._as_list else line + "\n")
        self._count += 1

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._as_list:
            self._file.write("\n]\n" if self._count else "[]\n")
        self._file.close()
