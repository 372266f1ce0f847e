"""Everything that the page about a data set says, gathered in one reading: counts, samples, and the
reports and quarantine files that stand beside the data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from callama.common.errors import CallamaError
from callama.common.files import read_json
from callama.common.html.charts import Count
from callama.common.progress import Meter
from callama.common.terminal import visible
from callama.data.build import QUARANTINE
from callama.data.counts import Counts
from callama.data.example import REASONS
from callama.data.look.runs import Run, runs_of
from callama.data.look.source import Source
from callama.data.split import LEFT_OUT

SAMPLES = 8
DEFECT_SAMPLES = 3
MAX_SAMPLE_TOKENS = 1_500
MAX_EXCERPT_CHARS = 1_500


class Sample(NamedTuple):
    """A conversation of the data set, its tokens in runs."""

    title: str
    runs: list[Run]


class Defect(NamedTuple):
    """A dropped record: where it stood, what was wrong, and its text."""

    where: str
    detail: str
    excerpt: str


@dataclass
class Survey:
    """``counts`` maps a heading (``drops``, ``repairs``) to its reasons; ``defects`` a reason to samples."""

    path: Path
    metadata: dict[str, Any]
    sides: dict[str, Counts] = field(default_factory=dict)
    read: int = 0
    dropped: int = 0
    repaired: int | None = None
    counts: dict[str, list[Count]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    defects: dict[str, list[Defect]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Conversations in the data set."""
        return sum(len(tally.lengths) for tally in self.sides.values())


def survey(source: Source, workers: int = 1) -> Survey:
    """Reads a source once, and the reports beside it.

    Raises:
        CallamaError: a record is not a conversation, or a report is damaged.
    """
    out = Survey(source.path, source.metadata)
    unrenderable: Counter[str] = Counter()
    with Meter(f"reading {source.path.name}", None, "conversations") as meter:
        for side in source.sides:
            tally = out.sides[side] = Counts()
            shown: set[str] = set()
            for rows, drops, *_ in source.batches(side, workers):
                tally.add(rows)
                _take_samples(out, source, side, rows, shown)
                for drop in drops:
                    unrenderable[drop.reason] += 1
                    _add_defect(out, drop.reason, {"record": drop.record, "detail": drop.detail}, drop.conversation)
                meter.advance(rows.num_rows + len(drops))
    if source.built:
        _read_build(out, next(iter(source.sides.values())).parent)
    else:
        out.read, out.dropped = out.kept, 0
        _read_cleaning(out, source.path)
    if unrenderable:
        out.counts["cannot be rendered"] = _counts(unrenderable, REASONS)
    return out


def _take_samples(out: Survey, source: Source, side: str, rows: Any, shown: set[str]) -> None:
    """The first conversation of each scenario (or sequence of answers), while there is room."""
    room = SAMPLES // len(source.sides)
    scenarios, answers = rows["scenario"].to_pylist(), rows["answers"].to_pylist()
    for index, (scenario, kinds) in enumerate(zip(scenarios, answers, strict=True)):
        if len(shown) == room:
            return
        what = scenario or ", ".join(kinds)
        if what in shown or len(rows["input_ids"][index]) > MAX_SAMPLE_TOKENS:
            continue
        shown.add(what)
        ids, kinds_of, trained = (rows[name][index].as_py() for name in ("input_ids", "kinds", "supervised"))
        title = f"{side}, record {rows['source'][index].as_py()}: {what}"
        out.samples.append(Sample(title, runs_of(ids, kinds_of, trained, source.renderer.tokenizer)))


def _read_build(out: Survey, folder: Path) -> None:
    out.read, dropped = out.metadata["read"], out.metadata["dropped"]
    out.dropped = sum(dropped.values())
    out.counts["dropped by the build"] = _counts(dropped, {**REASONS, **LEFT_OUT})
    _read_quarantine(out, folder / QUARANTINE)


def _read_cleaning(out: Survey, path: Path) -> None:
    """The report and quarantine of ``callama clean``."""
    report = path.with_name(path.name + ".report.json")
    if report.is_file():
        facts = read_json(report, "a report of 'callama clean'")
        try:
            out.read, out.dropped, out.repaired = (int(facts[k]) for k in ("read", "dropped", "kept_after_repair"))
            for name in ("drops", "repairs"):
                counts = {code: int(entry["count"]) for code, entry in facts[name].items()}
                meanings = {code: str(entry["meaning"]) for code, entry in facts[name].items()}
                out.counts[f"{name} of the cleaning"] = _counts(counts, meanings)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CallamaError(
                f"{report} is not a report of 'callama clean' ({error!r}); move the file away or clean again"
            ) from None
    _read_quarantine(out, path.with_name(path.name + ".quarantine.jsonl"))


def _counts(counts: Mapping[str, int], meanings: Mapping[Any, str]) -> list[Count]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Count(name, count, meanings.get(name, "")) for name, count in ordered]


def _read_quarantine(out: Survey, path: Path) -> None:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise ValueError("it is no object")
            except (ValueError, RecursionError) as error:
                raise CallamaError(
                    f"{path}, line {number}: not an entry of a quarantine ({error}); move the file away or repair it"
                ) from None
            reason = str(entry.get("reason", "unknown"))
            if len(out.defects.get(reason, ())) < DEFECT_SAMPLES:
                text = entry.get("text") or entry.get("record") if "row" in entry else entry.get("conversation")
                _add_defect(out, reason, entry, text)


def _add_defect(out: Survey, reason: str, entry: Mapping[str, Any], text: Any) -> None:
    samples = out.defects.setdefault(reason, [])
    if len(samples) == DEFECT_SAMPLES:
        return
    place = entry.get("where") or f"record {entry.get('record')}"
    place = f"{entry['file']}, {place}" if "file" in entry else place
    fragment = entry.get("fragment")
    whole = (
        fragment
        if isinstance(fragment, str) and fragment
        else (text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, indent=1))
    )
    excerpt = whole if len(whole) <= MAX_EXCERPT_CHARS else f"{whole[:MAX_EXCERPT_CHARS]}…"
    samples.append(Defect(visible(str(place)), visible(str(entry.get("detail", ""))), visible(excerpt)))
