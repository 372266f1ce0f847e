"""Two evaluations case by case: what improved, what got worse, and where.

Works on reports and the answers beside them, so that nothing is asked again. Only cases that both
have, with the same request and the same expected turn, and that both models answered, are compared; the
others are counted. A case without an answer says nothing of a model: a server may have been away.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_json, require_file
from callama.evaluate.journal import answers_file
from callama.evaluate.statistics import mcnemar, wilson

Entry = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One model's answers: ``(suite, case)`` to what is kept of it, and its report."""

    name: str
    entries: dict[tuple[str, str], Entry]
    report: dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """One case, answered by both."""

    suite: str
    first: Entry
    second: Entry


@dataclass(frozen=True)
class Row:
    """A measure of both models: name and cases, then a rate each with its interval."""

    name: str
    first: dict[str, Any]
    second: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """``worse`` and ``better`` are the cases that changed sides; ``alone`` counts those that one model only has,
    ``failed`` those that both have and the first, the second model did not answer, ``left_out`` those that not
    both answered."""

    names: tuple[str, str]
    pairs: list[Pair]
    worse: list[Pair]
    better: list[Pair]
    alone: int
    failed: tuple[int, int]
    left_out: int
    sides: tuple[Side, Side]

    @property
    def test(self) -> dict[str, Any]:
        """McNemar's exact test over all pairs."""
        return mcnemar([p.first["right"] for p in self.pairs], [p.second["right"] for p in self.pairs])

    def by_suite(self) -> list[tuple[str, Row, dict[str, Any]]]:
        """Right turns by suite, each with its own test."""
        out = []
        for row in self._rows(lambda p: [p.suite]):
            of = [p for p in self.pairs if p.suite == row.name]
            out.append((row.name, row, mcnemar([p.first["right"] for p in of], [p.second["right"] for p in of])))
        return out

    def by_scenario(self) -> list[Row]:
        """Right turns by scenario."""
        return self._rows(lambda p: [p.first["scenario"]])

    def by_function(self) -> list[Row]:
        """Right turns by wanted function, the most frequent first."""
        return sorted(self._rows(lambda p: p.first["functions"]), key=lambda r: (-r.first["count"], r.name))

    def by_argument_type(self) -> list[Row]:
        """Right arguments of matched calls by JSON type."""
        found: dict[str, tuple[list[bool], list[bool]]] = defaultdict(lambda: ([], []))
        for pair in self.pairs:
            for side, entry in enumerate((pair.first, pair.second)):
                for kind, verdict in entry["arguments"]:
                    if verdict != "invented":
                        found[kind][side].append(verdict == "right")
        return [Row(name, *(wilson(sum(hits), len(hits)) for hits in both)) for name, both in sorted(found.items())]

    def _rows(self, groups: Callable[[Pair], Iterable[str]]) -> list[Row]:
        found: dict[str, list[Pair]] = defaultdict(list)
        for pair in self.pairs:
            for name in groups(pair):
                found[name].append(pair)
        return [
            Row(name, _rate(p.first for p in of), _rate(p.second for p in of)) for name, of in sorted(found.items())
        ]


def _rate(entries: Iterable[Entry]) -> dict[str, Any]:
    hits = [bool(entry["right"]) for entry in entries]
    return wilson(sum(hits), len(hits))


def compare(first: Path, second: Path | None) -> Comparison:
    """Compares the tested (``tuned``) models of two reports, or ``base`` and ``tuned`` of one.

    Raises:
        UsageError: a report or its answers are missing, or one report alone has no ``base``.
        CallamaError: a file is damaged, or the two have no case in common that both answered.
    """
    if second is None:
        sides = (_read_side(first, "base", "base"), _read_side(first, "tuned", "tuned"))
    else:
        names = (first.stem, second.stem) if first.stem != second.stem else (str(first), str(second))
        sides = (_read_side(first, "tuned", names[0]), _read_side(second, "tuned", names[1]))
    common = []
    for place, entry in sides[0].entries.items():
        other = sides[1].entries.get(place)
        if other is not None and (entry["request"], entry["wanted"]) == (other["request"], other["wanted"]):
            common.append(Pair(place[0], entry, other))
    if not common:
        raise CallamaError(f"{first} and {second} have no case in common; evaluate both models on the same suites")
    pairs = [p for p in common if not _failed(p.first) and not _failed(p.second)]
    failed = sum(_failed(p.first) for p in common), sum(_failed(p.second) for p in common)
    if not pairs:
        counts = " and ".join(f"{n:,} by {side.name}" for n, side in zip(failed, sides, strict=True))
        raise CallamaError(
            f"of {len(common):,} cases in common not one was answered by both models (not answered: {counts}); "
            "mend what kept the answers away and start the same `callama evaluate` again"
        )
    return Comparison(
        (sides[0].name, sides[1].name),
        pairs,
        [p for p in pairs if p.first["right"] and not p.second["right"]],
        [p for p in pairs if p.second["right"] and not p.first["right"]],
        len(sides[0].entries) + len(sides[1].entries) - 2 * len(common),
        failed,
        len(common) - len(pairs),
        sides,
    )


def _read_side(path: Path, model: str, name: str) -> Side:
    report = read_json(path, "a report of `callama evaluate`")
    if not isinstance(report, dict) or "suite" not in report:
        raise CallamaError(f"{path} is no report of `callama evaluate`: it has no 'suite'")
    if model not in report:
        raise UsageError(f"{path} has no {model!r}; name two reports, or evaluate with --base")
    answers = require_file(answers_file(path), f"the answers behind {path.name}; evaluate again with --out {path}")
    entries: dict[tuple[str, str], Entry] = {}
    for number, line in enumerate(answers.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            if entry.get("model") == model and _whole(entry):
                entries[entry["suite"], entry["case"]] = entry
        except (ValueError, AttributeError, KeyError, TypeError):
            raise CallamaError(f"{answers}, line {number}: not an answer; evaluate again with --out {path}") from None
    if not entries:
        raise CallamaError(f"{answers} has no scored answers of {model!r}; the run was not finished: start it again")
    return Side(name, entries, report)


def _failed(entry: Entry) -> bool:
    return bool(entry["reply"]["kind"] == "failed")


def _whole(entry: Mapping[str, Any]) -> bool:
    texts: Sequence[str] = ("suite", "case", "scenario", "request", "wanted", "said")
    lists: Sequence[str] = ("functions", "arguments")
    fits = all(isinstance(entry[key], str) for key in texts) and all(isinstance(entry[key], list) for key in lists)
    fits = fits and isinstance(entry["reply"]["kind"], str)
    if not fits or not all(isinstance(pair, list) and len(pair) == 2 for pair in entry["arguments"]):
        raise TypeError
    return True
