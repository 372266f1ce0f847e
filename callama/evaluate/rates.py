"""From outcomes to figures: rates with 95 % intervals, as data.

A chain of rates over the cases that want calls (parses → fits the schema → right functions → right
calls), rates over the cases that want text, and the same outcomes by scenario, function and argument.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from callama.evaluate.arguments import Verdict
from callama.evaluate.reply import KINDS
from callama.evaluate.score import Outcome
from callama.evaluate.statistics import mcnemar, ratio, wilson

RATES = {
    "right_turn": "all cases: the right calls, or text where none is wanted",
    "parse_rate": "call wanted: the answer parses as a call",
    "schema_valid": "call wanted: it parses and fits its tools' schemas",
    "right_function": "call wanted: the right functions, all of them",
    "exact_call": "call wanted: the exact calls in any order, every argument",
    "exact_sequence": "call wanted: the exact calls in the expected order",
    "right_abstention": "no call wanted: answered in text",
    "asked_back": "something is missing: asked for it",
    "recovered": "a tool reported an error: the right call, or text, follows",
    "plain_chat": "conversation without functions: text that does not go round in circles",
    "malformed": "all cases: a broken call",
    "hallucinated": "all cases: a call of a function that was not offered",
    "failed": "all cases: no answer at all",
    "cut": "all cases: the answer was cut at --max-new-tokens, and is judged as it stands",
}
ARGUMENTS = {
    "missing": "of the wanted arguments of matched calls: left out",
    "wrong_type": "… given with another JSON type",
    "wrong_value": "… given with another value",
    "invented": "of the given arguments of matched calls: not wanted",
    "f1": "arguments right, against those wanted and those given (micro-F1)",
}
_FAULTS: tuple[Verdict, ...] = ("missing", "wrong_type", "wrong_value")


def rates(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The rates of ``RATES``; ``arguments`` (``ARGUMENTS``, bootstrap over cases); the ``confusion`` of call and
    no call; the share of right turns by ``scenarios`` and ``functions``, of right arguments by
    ``argument_types``; and the outside checker's ``errors``, counted."""
    called = [o for o in outcomes if o.case.wants_call]
    certain = [o for o in called if not o.case.any_call]
    compared = [o for o in certain if not o.case.by_effect]
    texts = [o for o in outcomes if not o.case.wants_call]
    return {
        "right_turn": _share(outcomes, lambda o: o.right),
        "parse_rate": _share(called, lambda o: o.reply.kind == "call"),
        "schema_valid": _share(called, lambda o: o.schema_valid),
        "right_function": _share(compared, lambda o: o.right_function),
        "exact_call": _share(certain, lambda o: o.exact_call),
        "exact_sequence": _share(compared, lambda o: o.exact_sequence),
        "right_abstention": _share(texts, lambda o: o.reply.kind == "text"),
        "asked_back": _share((o for o in texts if o.case.asks_back), lambda o: o.asked_back),
        "recovered": _share((o for o in outcomes if o.case.after_error), lambda o: o.right),
        "plain_chat": _share((o for o in outcomes if o.case.plain), lambda o: o.chats),
        "malformed": _share(outcomes, lambda o: o.reply.kind == "malformed"),
        "hallucinated": _share(outcomes, lambda o: bool(o.hallucinated)),
        "failed": _share(outcomes, lambda o: o.reply.kind == "failed"),
        "cut": _share(outcomes, lambda o: o.reply.cut),
        "arguments": _arguments(compared),
        "confusion": {
            wanted: {kind: sum(o.reply.kind == kind for o in of) for kind in KINDS}
            for wanted, of in (("call", called), ("text", texts))
        },
        "scenarios": _by(outcomes, lambda o: [o.case.scenario]),
        "functions": _by(certain, lambda o: {call.name for call in o.case.expected.tool_calls}),
        "argument_types": _argument_types(compared),
        "errors": dict(Counter(o.error for o in outcomes if o.error).most_common()),
    }


def paired(first: Sequence[Outcome], second: Sequence[Outcome]) -> dict[str, Any]:
    """McNemar's exact test of right turns; the models must have answered the same cases."""
    return mcnemar([o.right for o in first], [o.right for o in second])


def _share(outcomes: Iterable[Outcome], hit: Callable[[Outcome], bool]) -> dict[str, Any]:
    hits = [hit(o) for o in outcomes]
    return wilson(sum(hits), len(hits))


def _by(outcomes: Iterable[Outcome], groups: Callable[[Outcome], Iterable[str]]) -> dict[str, Any]:
    found: defaultdict[str, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        for name in groups(outcome):
            found[name].append(outcome.right)
    return {name: wilson(sum(hits), len(hits)) for name, hits in sorted(found.items())}


def _arguments(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counts = [o.arguments for o in outcomes]
    wanted = [a.count("right", *_FAULTS) for a in counts]
    given = [a.count("right", "wrong_type", "wrong_value", "invented") for a in counts]
    return {
        **{fault: ratio([a.count(fault) for a in counts], wanted) for fault in _FAULTS},
        "invented": ratio([a.count("invented") for a in counts], given),
        "f1": ratio([2 * a.count("right") for a in counts], [a.wanted + a.made for a in counts]),
    }


def _argument_types(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for outcome in outcomes:
        for argument in outcome.arguments.judged:
            if argument.verdict != "invented":
                found[argument.type].append(argument.verdict == "right")
    return {name: wilson(sum(hits), len(hits)) for name, hits in sorted(found.items())}
