"""The page about a comparison: one file without scripts, links or anything from elsewhere.

It shares style and policy with the page about data, so that both read alike in light and in dark.
"""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from callama import __version__
from callama.data.look.charts import stack
from callama.data.look.page import style
from callama.evaluate.compare import Comparison, Row

TOP_FUNCTIONS = 30


def page(comparison: Comparison) -> str:
    """HTML of the whole page."""
    environment = Environment(
        loader=PackageLoader("callama.evaluate.look", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    test, functions = comparison.test, comparison.by_function()
    return environment.get_template("page.html").render(
        version=__version__,
        style=Markup(style()),
        comparison=comparison,
        names=comparison.names,
        test=test,
        fate=stack(
            [
                ("right in both", "neutral", test["both"]),
                ("improved", "text", test["only_second"]),
                ("worse", "bad", test["only_first"]),
                ("wrong in both", "prompt", test["neither"]),
            ]
        ),
        suites=comparison.by_suite(),
        scenarios=bars(comparison.by_scenario(), comparison.names),
        functions=bars(functions[:TOP_FUNCTIONS], comparison.names),
        more_functions=max(0, len(functions) - TOP_FUNCTIONS),
        argument_types=bars(comparison.by_argument_type(), comparison.names),
        texts=[side.report.get("text", {}) for side in comparison.sides],
    )


def bars(rows: Sequence[Row], names: tuple[str, str]) -> Markup:
    """For each row two thin bars, one a model, from 0 to 100 %; the interval stands in their tooltips."""
    out = []
    for row in rows:
        rates = [(side, name, rate) for side, name, rate in zip(("train", "validation"), names, (row.first, row.second),
                                                                strict=True)]  # fmt: skip
        tracks = Markup("").join(
            Markup('<i class="{}" style="width:{:.2f}%" title="{}: {} [{}, {}]"></i>').format(
                side,
                100 * (rate["rate"] or 0),
                name,
                percent(rate["rate"]),
                percent(rate["low"]),
                percent(rate["high"]),
            )
            for side, name, rate in rates
        )
        figures = Markup("<br>").join(
            Markup("{}<small>of {:,}</small>").format(percent(rate["rate"]), rate["count"]) for _, _, rate in rates
        )
        out.append(
            Markup(
                '<div class="row"><span class="name">{}</span><span class="track">{}</span>'
                '<span class="figure">{}</span></div>'
            ).format(row.name, tracks, figures)
        )
    return Markup('<div class="bars">{}</div>').format(Markup("").join(out))


def percent(rate: float | None) -> str:
    """``12.3 %``."""
    return "–" if rate is None else f"{100 * rate:.1f} %"
