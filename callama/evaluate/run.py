"""Runs models over the same cases and puts the figures side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError
from callama.common.files import atomic_file
from callama.common.progress import Meter
from callama.evaluate.journal import Journal, answers_file, beside, case_key
from callama.evaluate.model import Model
from callama.evaluate.rates import paired, rates
from callama.evaluate.reply import Reply
from callama.evaluate.score import Outcome, score
from callama.evaluate.suites import Suite
from callama.evaluate.trail import trail


@dataclass(frozen=True)
class Evaluation:
    """Outcomes by suite and model, on the same cases in the same order, and the report as data."""

    outcomes: dict[str, dict[str, list[Outcome]]]
    report: dict[str, Any]


def evaluate(suites: Sequence[Suite], models: Mapping[str, Model], *, out: Path | None = None) -> Evaluation:
    """Evaluates models by name (``base``, ``tuned``) on suites.

    With ``out`` (the report's file; it is not written here) answers are kept beside it as they come and
    taken from there when the same run is started again; from an endpoint only those of a run that was
    stopped. Broken records go to ``….quarantine.jsonl``.

    Raises:
        CallamaError: a model cannot be loaded or answers nothing at all, the disk is full.
    """
    identities = {name: model.identity for name, model in models.items()}
    keys = {
        (name, suite.name): [case_key(identities[name], case) for case in suite.cases]
        for name in models
        for suite in suites
    }
    if out is not None:
        _write_quarantine(beside(out, ".quarantine.jsonl"), suites)
    served = {k for (name, _), of in keys.items() if "endpoint" in identities[name] for k in of}
    outcomes: dict[str, dict[str, list[Outcome]]] = {suite.name: {} for suite in suites}
    with Journal(
        None if out is None else answers_file(out), (k for of in keys.values() for k in of), served
    ) as journal:
        if taken := len(served & journal.known.keys()):
            print(
                f"{taken} answers of a run that was stopped are taken over from {journal.path}; delete it if another "
                "model is behind the address now",
                file=sys.stderr,
            )
        for name, model in models.items():
            asked: list[Reply] = []
            for suite in suites:
                replies = _ask(f"{name} on {suite.name}", model, suite, keys[name, suite.name], journal)
                scored = [score(case, reply) for case, reply in zip(suite.cases, replies, strict=True)]
                outcomes[suite.name][name] = suite.settle(scored)
                asked += replies
            model.close()
            _require_answers(name, asked)
    journal.rewrite(
        {"key": key, "suite": suite.name, "model": name, **trail(outcome)}
        for suite in suites
        for name in models
        for key, outcome in zip(keys[name, suite.name], outcomes[suite.name][name], strict=True)
    )
    tables = {suite.name: _figures(suite, outcomes[suite.name]) for suite in suites}
    report = {**tables[suites[0].name], "models": identities}
    if len(suites) > 1:
        report["suites"] = tables
    return Evaluation(outcomes, report)


def _figures(suite: Suite, outcomes: Mapping[str, list[Outcome]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"suite": {"name": suite.name, **suite.facts}}
    figures |= {name: rates(of) for name, of in outcomes.items()}
    if len(outcomes) == 2:
        figures["paired"] = paired(*outcomes.values())
    return figures


def _ask(what: str, model: Model, suite: Suite, keys: Sequence[str], journal: Journal) -> list[Reply]:
    # Equal cases (two conversations that open alike) are asked once.
    open_cases = list({key: i for i, key in enumerate(keys) if key not in journal.known}.values())
    with Meter(f"evaluating {what}", len(open_cases), "cases") as meter:
        if known := len(keys) - len(open_cases):
            meter.advance(0, f"{known} answers known")

        def keep(index: int, reply: Reply) -> None:
            journal.add(keys[open_cases[index]], reply)
            meter.advance()

        if open_cases:
            suite.ask(model, [suite.cases[i] for i in open_cases], keep)
    return [journal.known[key] for key in keys]


def _require_answers(name: str, replies: Sequence[Reply]) -> None:
    if all(reply.kind == "failed" for reply in replies):
        raise CallamaError(
            f"{name} answered none of {len(replies):,} cases, so that no figure would mean anything; the first: "
            f"{replies[0].reason}; mend that and run again"
        )


def _write_quarantine(path: Path, suites: Sequence[Suite]) -> None:
    lines = [line for suite in suites for line in suite.quarantine]
    if lines:
        with atomic_file(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)
