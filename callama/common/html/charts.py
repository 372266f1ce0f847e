"""Charts as HTML and SVG text, without scripts: bars, stacks and histograms that the pages and the notebook share.

Every text goes through ``Markup.format``, which escapes it; colours are CSS variables of the page,
so that one chart is readable in light and in dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

BINS = 48
_WIDTH, _HEIGHT, _HEAD, _FOOT = 720, 130, 18, 22


@dataclass(frozen=True)
class Count:
    """How often something was, and what it means."""

    name: str
    count: int
    meaning: str = ""


def bars(counts: Sequence[Count], total: int, colour: str = "neutral") -> Markup:
    """One bar a row, longest first: name and meaning, bar, count and share of ``total``."""
    longest = max((c.count for c in counts), default=0)
    rows = Markup("").join(
        Markup(
            '<div class="row"><span class="name">{}<small>{}</small></span>'
            '<span class="track"><i class="{}" style="width:{:.2f}%"></i></span>'
            '<span class="figure">{:,}<small>{}</small></span></div>'
        ).format(c.name, c.meaning, colour, 100 * c.count / longest if longest else 0, c.count, share(c.count, total))
        for c in counts
    )
    return Markup('<div class="bars">{}</div>').format(rows)


def side_bars(counts: Mapping[str, Mapping[str, int]]) -> Markup:
    """For each name one thin bar a side, each the share of that side; names by their overall number."""
    names = sorted(
        {n for c in counts.values() for n in c}, key=lambda n: (-sum(c.get(n, 0) for c in counts.values()), n)
    )
    totals = {side: sum(c.values()) for side, c in counts.items()}
    largest = max((c[n] / totals[side] for side, c in counts.items() for n in c), default=1)
    return rows_of_bars(
        (
            name,
            [
                (side, f"{side}: {n:,}", n / totals[side] / largest, f"{n:,}", share(n, totals[side]))
                for side, n in ((side, c.get(name, 0)) for side, c in counts.items() if totals[side])
            ],
        )
        for name in names
    )


def rows_of_bars(rows: Iterable[tuple[str, Sequence[tuple[str, str, float, str, str]]]]) -> Markup:
    """For each name its thin bars, ``(colour, tooltip, length from 0 to 1, figure, small print)``."""
    out = []
    for name, thin in rows:
        tracks = Markup("").join(
            Markup('<i class="{}" style="width:{:.2f}%" title="{}"></i>').format(colour, 100 * length, tooltip)
            for colour, tooltip, length, _, _ in thin
        )
        figures = Markup("<br>").join(Markup("{}<small>{}</small>").format(f, small) for _, _, _, f, small in thin)
        out.append(
            Markup(
                '<div class="row"><span class="name">{}</span><span class="track">{}</span>'
                '<span class="figure">{}</span></div>'
            ).format(name, tracks, figures)
        )
    return Markup('<div class="bars">{}</div>').format(Markup("").join(out))


def stack(parts: Sequence[tuple[str, str, int]]) -> Markup:
    """One bar cut into parts ``(name, colour, count)``, with a legend that gives count and share."""
    total = sum(count for _, _, count in parts) or 1
    cells = Markup("").join(
        Markup('<i class="{}" style="flex-grow:{}" title="{}: {:,}"></i>').format(colour, count, name, count)
        for name, colour, count in parts
        if count
    )
    legend = Markup("").join(
        Markup('<span><i class="dot {}"></i>{} <b>{:,}</b> <small>{}</small></span>').format(
            colour, name, count, share(count, total)
        )
        for name, colour, count in parts
    )
    return Markup('<div class="stack">{}</div><div class="legend">{}</div>').format(cells, legend)


def histogram(lengths: Sequence[int], colour: str, end: int) -> Markup:
    """How many conversations have so many tokens: columns from 0 to ``end``, longer ones in the last; p50 and p95."""
    values = np.minimum(np.asarray(lengths, np.int64), end - 1)
    heights, edges = np.histogram(values, bins=min(BINS, end), range=(0, end))
    tallest, width = int(heights.max()) or 1, _WIDTH / len(heights)
    columns = Markup("").join(
        Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>').format(
            colour,
            i * width,
            _HEIGHT - _HEIGHT * h / tallest,
            max(width - 1, 0.5),
            _HEIGHT * h / tallest,
            f"{edges[i]:,.0f} to {edges[i + 1] - 1:,.0f} tokens: {h:,}",
        )
        for i, h in enumerate(heights.tolist())
        if h
    )
    marks = Markup("").join(
        Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="-4" y2="{1}"/>{2}').format(
            x,
            _HEIGHT,
            Markup('<text class="mark" x="{:.1f}" y="-7" text-anchor="{}">{} {:,}</text>').format(
                x + gap, anchor, name, value
            ),
        )
        for name, percent, anchor, gap in (("p50", 50, "end", -4), ("p95", 95, "start", 4))
        for value in [int(np.percentile(lengths, percent))]
        for x in [min(value / end, 1) * _WIDTH]
    )
    anchors = ("start", "middle", "middle", "middle", "end")
    ticks = Markup("").join(
        Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{:,}{}</text>').format(
            _WIDTH * tick / 4, _HEIGHT + 16, anchor, round(end * tick / 4), " tokens" if anchor == "end" else ""
        )
        for tick, anchor in enumerate(anchors)
    )
    return Markup(
        '<svg viewBox="0 -{} {} {}" role="img" aria-label="histogram of lengths">{}<path d="M0 {h}H{w}"/>{}{}</svg>'
    ).format(_HEAD, _WIDTH, _HEAD + _HEIGHT + _FOOT, columns, marks, ticks, h=_HEIGHT, w=_WIDTH)


def share(count: int, total: int) -> str:
    """``12.3 %``; small but present shares never read as nothing."""
    if not total:
        return ""
    percent = 100 * count / total
    return "< 0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def round_end(lengths: Sequence[int]) -> int:
    """A round end for an axis that shows all but the longest 0.5 %."""
    top = float(np.percentile(lengths or [1], 99.5)) + 1
    step = 4 * 10 ** max(0, int(np.log10(top)) - 1)
    return int(-(-top // step) * step)
