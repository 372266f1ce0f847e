"""The page about a data set: what was read and kept, and what the tokens of its conversations are.

Everything that needs more than a template stands here; numbers are gathered by ``survey``.
"""

from __future__ import annotations

from collections import Counter

from markupsafe import Markup

from callama.common.html import charts
from callama.common.html.charts import Count
from callama.common.html.page import render
from callama.contract.spans import Kind
from callama.data.look.runs import Run
from callama.data.look.survey import Survey

TOP_FUNCTIONS = 20
_CLASSES = {kind: kind.name.lower().replace("_", "-") for kind in Kind}


def page(survey: Survey) -> str:
    """HTML of the whole page."""
    tallies = survey.sides
    return render(
        "callama.data.look",
        survey.path.name,
        survey=survey,
        spans=spans,
        metadata=survey.metadata,
        reports={side: tally.report() for side, tally in tallies.items()},
        fate=_fate(survey),
        losses=[
            (name, charts.bars(counts, survey.read, _mood(name))) for name, counts in survey.counts.items() if counts
        ],
        histograms=histograms(survey),
        functions=functions(survey),
        answers=charts.side_bars({side: tally.answers for side, tally in tallies.items()}),
        scenarios=charts.side_bars({s: t.scenarios for s, t in tallies.items()}) if _any(survey, "scenarios") else "",
        kinds=kinds(survey),
        legend=[(kind.name.lower().replace("_", " "), _CLASSES[kind]) for kind in Kind],
    )


def _any(survey: Survey, name: str) -> bool:
    return any(getattr(tally, name) for tally in survey.sides.values())


def _mood(heading: str) -> str:
    return "neutral" if heading.startswith("repair") else "bad"


def _fate(survey: Survey) -> Markup:
    sides = [(side, side, len(tally.lengths)) for side, tally in survey.sides.items()]
    return charts.stack([*sides, ("dropped", "bad", survey.dropped)])


def histograms(survey: Survey) -> list[tuple[str, Markup]]:
    """One chart of lengths a side, on one axis."""
    end = charts.round_end([n for tally in survey.sides.values() for n in tally.lengths])
    return [(s, charts.histogram(t.lengths, s, end)) for s, t in survey.sides.items() if t.lengths]


def kinds(survey: Survey) -> list[tuple[str, Markup]]:
    """What the tokens are: prompt against answers, and the answers' tokens by kind."""
    total: Counter[str] = Counter()
    for tally in survey.sides.values():
        total.update(tally.kinds)
    said = [
        (k.name.lower().replace("_", " "), _CLASSES[k], total[k.name.lower()]) for k in Kind if k is not Kind.PROMPT
    ]
    answers = sum(count for _, _, count in said)
    return [
        ("all tokens", charts.stack([("prompt", "prompt", total["prompt"]), ("answers", "neutral", answers)])),
        ("tokens of answers", charts.stack(said)),
    ]


def functions(survey: Survey) -> list[tuple[str, str, Markup]]:
    """Per side: a sentence about how functions are spread, and the most frequent ones."""
    out = []
    for side, tally in survey.sides.items():
        if not tally.functions:
            continue
        top = tally.functions.most_common(TOP_FUNCTIONS)
        once = sum(count == 1 for count in tally.functions.values())
        conversations = len(tally.lengths)
        many = "function" if len(tally.functions) == 1 else "functions"
        words = f"{len(tally.functions):,} {many}, {once:,} of them in one conversation only"
        out.append((side, words, charts.bars([Count(name, count) for name, count in top], conversations, side)))
    return out


def spans(runs: list[Run]) -> Markup:
    """Tokens in runs as coloured text."""
    return Markup("").join(
        Markup('<span class="{}{}">{}</span>').format(
            _CLASSES[run.kind], "" if run.trained or run.kind is Kind.PROMPT else " untrained", run.text
        )
        for run in runs
    )
