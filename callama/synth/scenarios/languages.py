"""Requests in other languages than English; the tools stay English, and values stand in the call as the
user wrote them. The sentences stand in the catalogue, under ``languages``."""

from __future__ import annotations

from typing import Any

from callama.synth.catalogue import SLOT, ToolSpec, slots
from callama.synth.speech import Ask, make_values
from callama.synth.stage import Calls, NoFitError, Scene, Stage, User


def cast(stage: Stage) -> tuple[ToolSpec, ...]:
    """Up to four tools that can be asked for in another language."""
    able = [s for s in stage.specs if s.languages]
    if not able:
        raise NoFitError
    first = stage.rng.choice(able)
    others = [s for s in able if s.name not in (first.name, *first.like)]
    return (first, *stage.rng.sample(others, min(len(others), stage.count(20, 40, 25, 15))))


def languages(stage: Stage) -> Scene:
    """Request in another language → call."""
    rng = stage.rng
    spec = stage.pick(lambda s: s.languages)
    template = rng.choice(spec.languages[rng.choice(sorted(spec.languages))])
    flat = make_values(spec, rng)
    text = SLOT.sub(lambda slot: _plain(flat[slot[1]]), template)
    said = set(slots(template))
    asked = Ask(spec, text, {p: flat[p] for p in spec.leaves if p in said})
    offered = stage.cast or (spec, *stage.others(stage.count(50, 35, 15), [spec]))
    return Scene(tuple(offered), (User(text), Calls((asked,))))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
