"""The page about a comparison: two models side by side, case by case, in the style of the other pages."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from callama.common.html.charts import rows_of_bars, stack
from callama.common.html.page import render
from callama.evaluate.compare import Comparison, Row

TOP_FUNCTIONS = 30


def page(comparison: Comparison) -> str:
    """HTML of the whole page."""
    test, functions = comparison.test, comparison.by_function()
    return render(
        "callama.evaluate.look",
        " against ".join(comparison.names),
        percent=percent,
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
    return rows_of_bars(
        (
            row.name,
            [
                (
                    side,
                    f"{name}: {percent(rate['rate'])} [{percent(rate['low'])}, {percent(rate['high'])}]",
                    rate["rate"] or 0,
                    percent(rate["rate"]),
                    f"of {rate['count']:,}",
                )
                for side, name, rate in zip(("train", "validation"), names, (row.first, row.second), strict=True)
            ],
        )
        for row in rows
    )


def percent(rate: float | None) -> str:
    """``12.3 %``."""
    return "–" if rate is None else f"{100 * rate:.1f} %"
