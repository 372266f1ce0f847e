"""Answers on disk as they come, so that an interrupted run goes on where it stopped.

One JSON Lines file beside the report. Every line carries a key: a hash of the model, of how it was
asked and of the case. A line is used again exactly when its key is asked for again, so that another
model or another suite never inherits an answer. Failed answers are asked for anew. Lines of an earlier
run stay until the new one has its own in their place: a run that is stopped costs nobody's answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_file
from callama.contract.jsontext import dumps
from callama.evaluate.cases import Case
from callama.evaluate.reply import Reply

_OF_ANSWERS = b'{"key"'  # how every line of answers begins


def answers_file(report: Path) -> Path:
    """Where the answers behind a report are: ``report.json`` → ``report.answers.jsonl``."""
    return beside(report, ".answers.jsonl")


def beside(report: Path, suffix: str) -> Path:
    """A companion of a report; two reports never share one, whatever dots are in their names."""
    return report.with_name(report.name.removesuffix(".json") + suffix)


def require_own(report: Path) -> None:
    """Makes sure that nothing but an earlier report and its answers is written over.

    Raises:
        UsageError: something else stands in the place of one of them.
    """
    answers = answers_file(report)
    if report.is_file() and (held := report.read_bytes()).strip() and not _is_report(held):
        raise UsageError(f"{report} exists and is no report of `callama evaluate`; name another file for the report")
    if answers.is_file():
        with answers.open("rb") as file:
            first = next((line for line in file if line.strip()), _OF_ANSWERS)
        if not first.startswith(_OF_ANSWERS[: len(first.rstrip())]):
            raise UsageError(f"{answers}, where the answers would be, exists and holds something else; "
                             "name another file for the report")  # fmt: skip


def _is_report(held: bytes) -> bool:
    try:
        report = json.loads(held)
    except (ValueError, RecursionError):
        return False
    return isinstance(report, dict) and "suite" in report


def case_key(identity: Mapping[str, Any], case: Case) -> str:
    """Names the answer of one model, asked in one way, to one case."""
    what: dict[str, Any] = {"asked": identity, "case": case.prompt.to_dict() | {"labels": {}}}
    if case.by_effect:  # many dialogues open alike and go on in other ways
        what["dialogue"] = case.id
    asked = dumps(what)
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


class Journal:
    """The file of answers while a run lasts; without a path nothing is kept."""

    def __init__(self, path: Path | None, keys: Iterable[str] = (), anew: Iterable[str] = ()) -> None:
        """Reads the answers that belong to ``keys``; those of a run that was finished not for ``anew``. A torn line,
        as a killed run leaves behind, is an answer that was not given, and is dropped from the file."""
        self.path = path
        self.known: dict[str, Reply] = {}
        self._lines: list[dict[str, Any]] = []
        wanted, ended = set(keys), set(anew)
        if path is not None and path.is_file():
            for line in path.read_bytes().splitlines():
                try:
                    entry = json.loads(line)
                    reply = Reply.from_dict(entry["reply"])
                except (ValueError, KeyError, TypeError, CallamaError):
                    continue
                self._lines.append(entry)
                finished = "suite" in entry  # as ``rewrite`` leaves them at a run's end, with their verdicts
                if entry.get("key") in wanted and reply.kind != "failed" and not (finished and entry["key"] in ended):
                    self.known[entry["key"]] = reply
        self._file: TextIO | None = None

    def __enter__(self) -> Journal:
        if self.path is not None:
            self.rewrite(self._lines)
            self._file = self.path.open("a", encoding="utf-8")
        return self

    def add(self, key: str, reply: Reply) -> None:
        """Keeps one answer, at once."""
        self.known[key] = reply
        if self._file is not None:
            self._file.write(_line({"key": key, "reply": reply.to_dict()}))
            self._file.flush()

    def rewrite(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the file, whole or not at all."""
        if self.path is not None:
            with atomic_file(self.path) as temporary, temporary.open("w", encoding="utf-8") as file:
                file.writelines(map(_line, entries))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"
