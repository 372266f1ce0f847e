"""A teacher's conversations on disk: asked for several at a time, judged, journalled, written when complete.

``OUT.teacher.jsonl`` keeps every judged item with what it cost, so that an interrupted run goes on
without asking again. Items are taken in waves, as many as are still missing; what is refused is
replaced by later items, so that the outcome does not depend on which answer came first.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from callama.common.errors import CallamaError
from callama.common.files import atomic_folder, require_replaceable, require_writable
from callama.common.pace import Pace
from callama.common.progress import Meter
from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, dump_line
from callama.data.quarantine import DropError, quarantine_line
from callama.data.records import Record
from callama.evaluate.endpoint import HOPELESS_AFTER, Endpoint, Patience
from callama.synth.catalogue import Catalogue, Side, load_catalogue
from callama.synth.own import write_own_catalogue
from callama.synth.own_sets import QUARANTINE, REPORT, remarks_report
from callama.synth.write import HELD_OUT, TRAIN
from callama.teach.judge import conversation_of, request_of
from callama.teach.plan import Plan, plan
from callama.teach.reasons import Refusal
from callama.teach.sense import bare_words
from callama.tools.loaded import Loaded

MAX_NEW_TOKENS = 1024
_SPARE = 4  # items tried for each that is wanted
_SHOWN = 100  # characters of a failure in the progress line
_SAME, _SAME_SHARE = 3, 0.2  # answers in words that are alike: so many, or this share of all in words
FAILED = "teacher_failed"


@dataclass(frozen=True)
class Teaching:
    """Who is asked, and how fast: ``requests_per_minute`` 0 is without limit."""

    url: str
    model: str
    requests_per_minute: float = 0.0
    slots: int = 4
    patience: Patience | None = None


@dataclass(frozen=True)
class Judged:
    """An item's outcome: a conversation's line or a quarantine entry; ``reason`` is empty where it was kept."""

    line: str
    reason: str = ""


class _FailedError(Exception):
    """The server gave no answer; the item is not judged."""


def teach(
    out: Path,
    loaded: Loaded,
    count: int,
    held_out_count: int,
    teaching: Teaching,
    *,
    val_ratio: float,
    seed: int,
    scenarios: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes the files of ``write_own_sets``, written by a teacher; returns the report with its cost.

    Raises:
        UsageError: the address is none, an unknown scenario, or ``out`` is not ours to replace.
        CallamaError: the teacher answers nothing, or too little of what it writes passes.
    """
    require_replaceable(out)
    require_writable(out.parent)
    endpoint = Endpoint(
        teaching.url, teaching.model, max_new_tokens=MAX_NEW_TOKENS, slots=teaching.slots,
        patience=teaching.patience, pace=Pace(teaching.requests_per_minute),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="callama-own-") as temporary:
        remarks = [*loaded.remarks, *write_own_catalogue(loaded, Path(temporary))]
        catalogue = load_catalogue(Path(temporary))
    plan(0, seed, "train", catalogue, scenarios)
    journal = Journal(out.with_name(f"{out.name}.teacher.jsonl"))
    work = _Work(endpoint, catalogue, seed, scenarios, journal)
    with Meter("teacher", count + held_out_count, "conversations") as meter:
        taught = work.gather("train", count, meter)
        held_out = work.gather("held_out", held_out_count, meter)
    validation = round(count * val_ratio)
    files, calls, played = {}, Counter[str](), set[str]()
    with atomic_folder(out, {"kind": "conversations", "seed": seed, "teacher": endpoint.identity}) as folder:
        for name, lines in ((TRAIN, taught), (HELD_OUT, held_out)):
            scenes = Counter[str]()
            with (folder / name).open("w", encoding="utf-8") as file:
                for index, line in enumerate(lines):
                    conversation = Conversation.from_dict(json.loads(line))
                    split = "train" if index < count - validation else "validation"
                    own = {"side": split, "split": split} if name == TRAIN else {"side": "held_out"}
                    conversation = replace(conversation, labels={**conversation.labels, **own, "source": "teacher"})
                    file.write(dump_line(conversation) + "\n")
                    scenes[str(conversation.labels["scenario"])] += 1
                    calls.update(conversation.called())
            files[name] = dict(sorted(scenes.items()))
            played |= scenes.keys()
        (folder / QUARANTINE).write_text("".join(f"{line}\n" for line in work.refused), encoding="utf-8")
        report = {
            "files": files, "calls": {s.name: calls[s.name] for s in catalogue.specs},
            "not_played": [name for name in scenarios or () if name not in played],
            "dropped": dict(sorted(work.drops.items())),
            "teacher": {**endpoint.identity, **journal.usage, "unanswered": work.unanswered},
            **remarks_report(remarks),
        }  # fmt: skip
        (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


class _Work:
    """Items asked for and judged, until there are enough."""

    def __init__(
        self, endpoint: Endpoint, catalogue: Catalogue, seed: int, scenarios: Sequence[str] | None, journal: Journal
    ) -> None:
        self._endpoint, self._catalogue, self._seed = endpoint, catalogue, seed
        self._scenarios, self._journal = scenarios, journal
        self._failed = 0  # in a row
        self.unanswered, self._last_failure = 0, ""
        self._said: set[str] = set()  # requests kept so far, of all sides
        self._answers = Counter[str]()  # answers in words kept so far
        self.drops: Counter[str] = Counter()
        self.refused: list[str] = []

    def gather(self, side: Side, count: int, meter: Meter) -> list[str]:
        """``count`` conversations of a side, as lines.

        Raises:
            CallamaError: the teacher answers nothing, or too little passes.
        """
        kept: list[str] = []
        first = 0
        while len(kept) < count:
            if first >= _SPARE * count + HOPELESS_AFTER:
                worst = ", ".join(f"{reason} {number:,}" for reason, number in self.drops.most_common(4))
                lost = f"; without an answer: {self.unanswered:,}, the last: {self._last_failure}"
                raise CallamaError(
                    f"the teacher's conversations hardly pass: {len(kept):,} of {first:,} kept, {count:,} wanted "
                    f"(refused: {worst or 'none'}{lost if self.unanswered else ''}); what it wrote is in "
                    f"{self._journal.path}; a smaller --count may be reached with it"
                )
            numbers = range(first, first + count - len(kept))
            first = numbers.stop
            for number, judged in zip(numbers, self._wave(side, numbers, meter), strict=True):
                judged = self._unless_repeated(judged, side, number)
                if judged.reason == FAILED:
                    continue
                if judged.reason:
                    self.drops[judged.reason] += 1
                    if judged.line:
                        self.refused.append(judged.line)
                else:
                    kept.append(judged.line)
        return kept

    def _unless_repeated(self, judged: Judged, side: Side, number: int) -> Judged:
        if judged.reason:
            return judged
        record = json.loads(judged.line)
        said, answer = (bare_words(message["content"] or "") for message in record["messages"])
        answer = re.sub(r"\d+", "0", answer)
        if said in self._said:
            reason = Refusal.REPEATED
        elif answer and self._answers[answer] >= max(_SAME, _SAME_SHARE * self._answers.total()):
            reason = Refusal.SAME_ANSWER
        else:
            self._said.add(said)
            self._answers.update([answer] if answer else [])
            return judged
        entry = quarantine_line(Record(number, f"{side} {number}", "", record), DropError(reason))
        return Judged(entry, reason.value)

    def _wave(self, side: Side, numbers: range, meter: Meter) -> list[Judged]:
        found: dict[int, Judged] = {}
        plans = {n: plan(n, self._seed, side, self._catalogue, self._scenarios) for n in numbers}
        keys = {n: self._key(side, n, plans[n]) for n in numbers}
        found = {n: self._journal.known[keys[n]] for n in numbers if keys[n] in self._journal.known}
        refused = self.drops.total() + sum(bool(judged.reason) for judged in found.values())
        meter.advance(sum(not judged.reason for judged in found.values()))
        stop = threading.Event()
        pool = ThreadPoolExecutor(self._endpoint.slots)
        waiting = (n for n in numbers if n not in found)
        running: dict[Future[Judged], int] = {}
        try:
            while True:
                while len(running) < self._endpoint.slots and (number := next(waiting, None)) is not None:
                    running[pool.submit(self._judge, plans[number], side, number, stop)] = number
                if not running:
                    return [found[n] for n in numbers]
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    found[number] = self._settle(future, keys[number])
                    refused += found[number].reason not in ("", FAILED)
                    meter.advance(int(not found[number].reason), self._note(refused))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _note(self, refused: int) -> str:
        """What the progress line says beside the figures; the network's failures are no refusals."""
        if not self.unanswered:
            return f"{refused:,} refused"
        last = shorten(self._last_failure, _SHOWN, placeholder=" …")
        return f"{refused:,} refused, {self.unanswered:,} without an answer, the last: {last}"

    def _settle(self, future: Future[Judged], key: str) -> Judged:
        try:
            judged = future.result()
        except _FailedError as error:
            self._failed, self._last_failure = self._failed + 1, str(error)
            self.unanswered += 1
            if self._endpoint.refusal or self._failed >= HOPELESS_AFTER:
                why = self._endpoint.refusal or f"failed {self._failed} times in a row: {error}"
                path = self._journal.path
                kept = f"what it wrote until then is kept in {path}: the same command goes on from there"
                raise CallamaError(
                    f"{self._endpoint.url} {why}; {kept if path.is_file() else 'it wrote nothing'}"
                ) from None
            return Judged("", FAILED)
        self._failed = 0
        self._journal.add(key, judged, self._endpoint.usage.taken())
        return judged

    def _key(self, side: str, number: int, item: Plan) -> str:
        # Not its address: a server may move between two runs.
        asked = [self._endpoint.name, MAX_NEW_TOKENS, side, number, item.instruction, [t.to_dict() for t in item.tools]]
        return hashlib.sha256(dumps(asked).encode()).hexdigest()[:32]

    def _judge(self, item: Plan, side: str, number: int, stop: threading.Event) -> Judged:
        told: dict[str, Any] = {"scenario": item.scenario, "instruction": item.instruction}
        try:
            written = self._endpoint.ask(item.writing(), stop)
            if written.kind == "failed":
                raise _FailedError(written.reason)
            told["request"] = written.text
            request = request_of(item, written)
            reply = self._endpoint.ask(item.answering(request), stop)
            if reply.kind == "failed":
                raise _FailedError(reply.reason)
            told["answer"] = reply.text
            return Judged(dump_line(conversation_of(item, request, reply)))
        except DropError as error:
            record = Record(number, f"{side} {number}", "", told)
            return Judged(quarantine_line(record, error), error.reason.value)


class Journal:
    """Judged items by key, appended as they come; ``usage`` is the cost of all of them."""

    def __init__(self, path: Path) -> None:
        """Reads what an earlier run left; a torn line is an item that was not judged."""
        self.path = path
        self.known: dict[str, Judged] = {}
        self.usage: Counter[str] = Counter(requests=0, prompt_tokens=0, completion_tokens=0)
        if path.is_file():
            written = path.read_bytes()
            if written and not written.endswith(b"\n"):
                with path.open("ab") as file:
                    file.write(b"\n")
            for line in written.splitlines():
                try:
                    entry = json.loads(line)
                    judged = Judged(entry["line"], entry["reason"])
                    usage = Counter({str(key): int(number) for key, number in entry["usage"].items()})
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
                self.known[entry["key"]] = judged
                self.usage.update(usage)

    def add(self, key: str, judged: Judged, usage: dict[str, int]) -> None:
        """Keeps one item, at once."""
        self.known[key] = judged
        self.usage.update(usage)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, **asdict(judged), "usage": usage}) + "\n")
