"""A value that the schema on offer forbids (February 30th, 25:10, an e-mail address without @, a word that an
enum lacks, a number out of bounds): the assistant says so and asks, and mostly the user corrects it and the call
follows. A limit that the schema does not state is none, however odd a value may look."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from callama.synth.catalogue import ToolSpec, slots
from callama.synth.speech import Ask, ask, called, dates_of, fill, make_values, manners
from callama.synth.stage import Calls, NoFitError, Say, Scene, Stage, Turn, User
from callama.synth.values import coined, make

_CONTINUED = 0.6
_NO_DAYS = ((2, 30), (2, 31), (4, 31), (6, 31), (9, 31), (11, 31), (5, 32))  # months and days


def invalid_value(stage: Stage) -> Scene:
    """Request with an impossible value → what is wrong, and a question (→ value → call)."""
    rng = stage.rng
    spec = stage.pick(_breakable)
    path = rng.choice(_breakable(spec))
    flat = make_values(spec, rng)
    bad, problem = _broken(spec, path, rng, flat)
    # The slot of the value must stand alone: in quotes or behind a sign it would read otherwise.
    template = rng.choice([t for t in spec.requests if f"{{{path}}}" in t])
    asked = ask(spec, rng, flat, template.replace(f"{{{path}}}", bad))
    gap = spec.missing[path]
    turns: list[Turn] = [User(manners(asked, rng), (asked,)), Say(f"{problem} {gap.question}")]
    if rng.random() < _CONTINUED:
        reply = rng.choice([r for r in gap.replies if path in slots(r)])
        whole = {p: flat[p] for p in spec.leaves if p in asked.flat or p == path}
        turns += [User(fill(reply, spec, flat, rng)), Calls((Ask(spec, asked.text, whole),))]
    offered = [spec, *stage.others(stage.count(65, 25, 10), [spec])]
    return Scene(tuple(offered), tuple(turns))


def _breakable(spec: ToolSpec) -> list[str]:
    return [p for p in spec.missing if p in spec.leaves and _kind(spec, p)]


def _kind(spec: ToolSpec, path: str) -> str:
    leaf = spec.leaves[path]
    if leaf.get("type") == "string" and "enum" in leaf:
        return "enum"
    if leaf.get("format") in ("date", "email"):
        return str(leaf["format"])
    if "pattern" in leaf and spec.makers[path].split(" ")[0] in ("time", "later_time"):
        return "time"
    return "number" if leaf.get("type") in ("integer", "number") and {"minimum", "maximum"} & set(leaf) else ""


def _no_date(spec: ToolSpec, path: str, flat: Mapping[str, Any], rng: random.Random) -> str:
    """A day that no calendar has, near the one that is meant, and on its side of all other dates of the request."""
    dates = dates_of(spec, flat)
    meant = dates.pop(path, "") or str(make("date", rng))
    for years in ((0,), (-1, 1)):
        days = [
            f"{int(meant[:4]) + shift}-{month:02}-{day:02}"
            for shift in years
            for month, day in (*_NO_DAYS, (13, rng.randint(1, 28)))
        ]
        if fitting := [d for d in days if all((d < other) is (meant < other) for other in dates.values())]:
            return rng.choice(fitting)
    raise NoFitError


def _broken(spec: ToolSpec, path: str, rng: random.Random, flat: Mapping[str, Any]) -> tuple[str, str]:
    """An impossible value, and what is wrong with it; ``flat`` has the values that it would stand among.

    Raises:
        NoFitError: none could stand there.
    """
    name, leaf = called(spec, path), spec.leaves[path]
    kind = _kind(spec, path)
    if kind == "date":
        bad = _no_date(spec, path, flat, rng)
        return bad, rng.choice((f"There is no {bad} in the calendar.", f"{bad} is not a date that exists."))
    if kind == "time":
        bad = rng.choice(
            (f"{rng.randint(25, 38)}:{rng.randint(0, 59):02}", f"{rng.randint(6, 22):02}:{rng.randint(60, 99)}")
        )
        return bad, rng.choice((f"{bad} is not a time of day.", f"A clock never shows {bad}."))
    if kind == "email":
        bad = f"{coined(rng).lower()}.{coined(rng).lower()}{rng.choice(('.com', '.org', ' at home'))}"
        return bad, f"{bad} is not a complete e-mail address."
    if kind == "number":
        bounds = [k for k in ("minimum", "maximum") if k in leaf]
        bound = rng.choice(bounds)
        limit = leaf[bound]
        bad = str(limit - rng.randint(1, 20) if bound == "minimum" else limit + rng.randint(1, max(2, int(limit))))
        said = f"at {'least' if bound == 'minimum' else 'most'} {limit}"
        return bad, rng.choice((f"{bad} can't be right: it must be {said}.", f"The {name} must be {said}, not {bad}."))
    bad = coined(rng).lower()
    allowed = ", ".join(leaf["enum"])
    return bad, rng.choice((f"I don't know {bad}; possible are {allowed}.", f"{bad} is none of {allowed}."))
