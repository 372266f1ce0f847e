"""Two calls one after the other: what the first gives is an argument of the second. Which tools fit is read
off the catalogue: a result and a required parameter hold the same kind of id.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from callama.synth.catalogue import ToolSpec
from callama.synth.names import spelled
from callama.synth.speech import Ask, ask, called, dates_of, lower_start, make_values, manners
from callama.synth.stage import Calls, NoFitError, Results, Say, Scene, Stage, Turn, User, answer_from, result_of
from callama.synth.truths import days_between, later

_BRIDGES = (
    "Then, with the {} you get: ", "Once you have the {}: ", "With the {} from that: ", "Use its {} for this: ",
    "Take the {} from the result, then: ",
)  # fmt: skip


class Link(NamedTuple):
    """``first``'s result under ``key`` is ``second``'s argument ``path``."""

    first: ToolSpec
    key: str
    second: ToolSpec
    path: str


def links(specs: Sequence[ToolSpec]) -> list[Link]:
    """All pairs of tools of which the second can use what the first gives."""
    takers: dict[str, list[tuple[ToolSpec, str]]] = {}
    for spec in specs:
        for path in spec.missing:
            takers.setdefault(spec.makers.get(path, ""), []).append((spec, path))
    return [
        Link(first, key, second, path)
        for first in specs
        for key, value in first.result.items()
        if isinstance(value, str) and value.startswith("@")
        for second, path in takers.get(value[1:], ())
        if second is not first and second.name not in first.like and _same_thing(first, key, value[1:], second, path)
    ]


def _same_thing(first: ToolSpec, key: str, maker: str, second: ToolSpec, path: str) -> bool:
    if maker.startswith("code ") and first.domain == second.domain:
        return True
    if maker.split(" ")[0] in ("int", "number", "pick", "date", "time", "price", "pick_number", "list"):
        return False
    # A film's title is no song's: such words mean the same thing only inside one domain.
    return spelled(key) == spelled(path) and (first.domain == second.domain or key not in ("name", "title"))


def cast(stage: Stage) -> tuple[ToolSpec, ...]:
    """Two tools that fit each other, and up to two more."""
    found = links(stage.specs)
    if not found:
        raise NoFitError
    link = stage.rng.choice(found)
    return (link.first, link.second, *stage.others(stage.count(50, 30, 20), [link.first, link.second]))


def _afterwards(spec: ToolSpec, first: Ask, flat: Mapping[str, Any], rng: random.Random) -> Mapping[str, Any]:
    """Values whose dates are later than those of the first call: nobody gets a raise before being hired."""
    before = dates_of(first.spec, first.flat)
    dates = dates_of(spec, flat)
    if not before or not dates or max(before.values()) < min(dates.values()):
        return flat
    days = days_between(min(dates.values()), max(before.values())) + rng.randint(1, 90)
    return {**flat, **{path: later(day, days) for path, day in dates.items()}}


def sequence(stage: Stage) -> Scene:
    """Request for two things → first call → result → second call (→ result → answer)."""
    rng = stage.rng
    found = links(stage.cast or stage.specs)
    if not found:
        raise NoFitError
    link = rng.choice(found)
    first = ask(link.first, rng, answered=True)
    result = result_of(first, rng)
    flat = {**_afterwards(link.second, first, make_values(link.second, rng), rng), link.path: result[link.key]}
    wish = ask(link.second, rng, flat, rng.choice(link.second.missing[link.path].requests), answered=True)
    second = Ask(link.second, wish.text, {p: flat[p] for p in link.second.leaves if p in wish.flat or p == link.path})
    bridge = rng.choice(_BRIDGES).format(called(link.second, link.path))
    text = f"{first.text}{'' if first.text[-1] in '.?!' else '.'} {bridge}{lower_start(wish)}"
    turns: list[Turn] = [
        User(manners(Ask(link.first, text, {}, first.firm), rng)),
        Calls((first,)), Results((result,)), Calls((second,)),
    ]  # fmt: skip
    if link.second.answers and rng.random() < 0.4:
        last = result_of(second, rng, first)
        turns += [Results((last,)), Say(answer_from(second, last, rng))]
    offered = stage.cast or (link.first, link.second, *stage.others(stage.count(60, 40), [link.first, link.second]))
    return Scene(tuple(offered), tuple(turns))
