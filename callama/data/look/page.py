"""The page about a data set: one file without scripts, links or anything from elsewhere.

Its content security policy forbids what it does not need, so that data which got past the escaping
could still load and run nothing.
"""

from __future__ import annotations

from collections import Counter
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from callama import __version__
from callama.contract.spans import Kind
from callama.data.look import charts
from callama.data.look.runs import Run
from callama.data.look.survey import Count, Survey

TOP_FUNCTIONS = 20
_CLASSES = {kind: kind.name.lower().replace("_", "-") for kind in Kind}


def page(survey: Survey) -> str:
    """HTML of the whole page."""
    environment = Environment(
        loader=PackageLoader("callama.data.look", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["spans"] = spans
    tallies = survey.sides
    return environment.get_template("page.html").render(
        version=__version__,
        style=Markup(style()),
        survey=survey,
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


def style() -> str:
    """The page's style sheet."""
    return (resources.files("callama.data.look") / "page.css").read_text(encoding="utf-8")


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
        words = f"{len(tally.functions):,} functions; {once:,} stand in one conversation only"
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
