"""Figures for the terminal: one row a rate, one column a model; and cases verbatim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from callama.common.terminal import printable
from callama.contract.jsontext import dumps
from callama.evaluate.cases import Case
from callama.evaluate.rates import ARGUMENTS, RATES
from callama.evaluate.score import Outcome


def cell(rate: Mapping[str, Any]) -> str:
    """A rate beside its interval."""
    if rate["rate"] is None:
        return "–"
    return f"{rate['rate']:6.1%}  [{rate['low']:.1%}, {rate['high']:.1%}]"


def table(title: str, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """The rates that have cases, the arguments, the share of right turns by scenario."""
    out = Table(title=escape(title), title_justify="left")
    out.add_column("measure")
    out.add_column("cases", justify="right")
    for name in columns:
        out.add_column(escape(f"{name}  [95 % interval]"), justify="right")
    first = next(iter(columns.values()))
    for name in RATES:
        if any(c[name]["count"] for c in columns.values()):
            out.add_row(name, str(first[name]["count"]), *(cell(c[name]) for c in columns.values()))
    out.add_section()
    for name in ARGUMENTS:
        if any(c["arguments"][name]["count"] for c in columns.values()):
            out.add_row(f"arguments: {name}", "", *(cell(c["arguments"][name]) for c in columns.values()))
    if any(len(c["scenarios"]) > 1 for c in columns.values()):
        out.add_section()
        for scenario, rate in first["scenarios"].items():
            cells = (cell(c["scenarios"][scenario]) for c in columns.values())
            out.add_row(escape(f"right turn: {scenario}"), str(rate["count"]), *cells)
    return out


def paired_line(names: tuple[str, str], test: Mapping[str, Any]) -> str:
    """McNemar's test in a sentence."""
    first, second = names
    return (
        f"right turns: {test['only_second']} only by {second}, {test['only_first']} only by {first}, "
        f"{test['both']} by both, {test['neither']} by neither; McNemar's exact p = {test['p']:.3g}"
    )


def _short(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + " …"


def request(case: Case) -> str:
    """What the model answers: the last thing that a user or a tool said."""
    return next((m.content or "" for m in reversed(case.prompt.messages) if m.role in ("user", "tool")), "")


def wanted(case: Case) -> str:
    """The expected turn."""
    if case.any_call:
        return "a call"
    if case.wants_call:
        return "; ".join(f"{c.name}({dumps(c.arguments)})" for c in case.expected.tool_calls)
    return f"text, such as: {case.expected.content}" if case.expected.content else "text"


def said(outcome: Outcome, *, short: bool = False) -> str:
    """The answer, or why there is none; and whether it is only its beginning."""
    reply = outcome.reply
    text = reply.text or f"({reply.reason or 'nothing'})"
    return (_short(text) if short else text) + " (cut at --max-new-tokens)" * reply.cut


def example(outcomes: Mapping[str, Outcome]) -> str:
    """One case as text: the request, what was expected, what each model said."""
    case = next(iter(outcomes.values())).case
    lines = [f"[{case.scenario}] {_short(request(case))}", f"  wanted  {wanted(case)}"]
    lines += [f"  {name:7} {'✓' if o.right else '✗'} {said(o, short=True)}" for name, o in outcomes.items()]
    return printable("\n".join(lines))
