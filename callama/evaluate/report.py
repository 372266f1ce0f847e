"""From outcomes to figures: rates with 95 % intervals, as JSON and as a table."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from callama.contract.jsontext import dumps
from callama.evaluate.score import Outcome

RATES = {
    "parse_rate": "call wanted: the answer parses as a call",
    "right_function": "call wanted: the right functions, all of them",
    "exact_call": "call wanted: the exact calls, every argument",
    "right_abstention": "no call wanted: answered in text",
    "malformed": "all cases: a broken call",
}
_Z95 = 1.959963984540054


def wilson(hits: int, count: int) -> dict[str, Any]:
    """A rate with its 95 % interval (Wilson 1927, JASA 22:209); an empty count has no rate."""
    if not count:
        return {"rate": None, "low": None, "high": None, "hits": 0, "count": 0}
    share, z2 = hits / count, _Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"rate": share, "low": low, "high": high, "hits": hits, "count": count}


def rates(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The rates of ``RATES`` and, by scenario, the share of right turns."""
    calls = [o for o in outcomes if o.case.wants_call]
    texts = [o for o in outcomes if not o.case.wants_call]
    by_scenario: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_scenario[outcome.case.scenario].append(outcome)
    return {
        "parse_rate": wilson(sum(o.answer.kind == "call" for o in calls), len(calls)),
        "right_function": wilson(sum(o.right_function for o in calls), len(calls)),
        "exact_call": wilson(sum(o.exact_call for o in calls), len(calls)),
        "right_abstention": wilson(sum(o.answer.kind == "text" for o in texts), len(texts)),
        "malformed": wilson(sum(o.answer.kind == "malformed" for o in outcomes), len(outcomes)),
        "scenarios": {name: wilson(sum(o.right for o in of), len(of)) for name, of in sorted(by_scenario.items())},
    }


def _cell(rate: Mapping[str, Any]) -> str:
    if rate["rate"] is None:
        return "–"
    return f"{rate['rate']:6.1%}  [{rate['low']:.1%}, {rate['high']:.1%}]"


def table(title: str, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a rate, one column a model; then the share of right turns by scenario."""
    out = Table(title=title, title_justify="left")
    out.add_column("measure")
    out.add_column("cases", justify="right")
    for name in columns:
        out.add_column(f"{name}  [95 % interval]", justify="right")
    first = next(iter(columns.values()))
    for name in RATES:
        out.add_row(name, str(first[name]["count"]), *(_cell(c[name]) for c in columns.values()))
    out.add_section()
    for scenario, rate in first["scenarios"].items():
        cells = (_cell(c["scenarios"][scenario]) for c in columns.values())
        out.add_row(f"right turn: {scenario}", str(rate["count"]), *cells)
    return out


def _said(outcome: Outcome, limit: int = 300) -> str:
    text = " ".join(outcome.text.split())
    return text if len(text) <= limit else text[:limit] + " …"


def example(outcomes: Mapping[str, Outcome]) -> str:
    """One case as text: the request, what was expected, what each model said."""
    case = next(iter(outcomes.values())).case
    question = next((m.content or "" for m in reversed(case.prompt.messages) if m.role in ("user", "tool")), "")
    wanted = (
        "; ".join(f"{c.name}({dumps(c.arguments)})" for c in case.expected.tool_calls)
        if case.wants_call
        else f"text, such as: {case.expected.content}"
    )
    lines = [f"[{case.scenario}] {' '.join(question.split())[:300]}", f"  wanted  {wanted}"]
    lines += [f"  {name:7} {'✓' if o.right else '✗'} {_said(o)}" for name, o in outcomes.items()]
    return "\n".join(lines)
