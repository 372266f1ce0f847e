"""Two or three calls of one function in one answer: "for Lisbon and for Oslo". The values are
listed in one sentence, added behind it, or said in a sentence each."""

from __future__ import annotations

from typing import Any

from callama.synth.catalogue import ToolSpec, slots
from callama.synth.speech import Ask, ask, attach, fill, join, lower_start, make_values, manners, say_value, wishes
from callama.synth.stage import Calls, Scene, Stage, User

# "Better on Friday" replaces a wish instead of adding one.
_ADDS = ("And", "Also", "The same", "Same", "Another", "Then", "After that", "{")
_BRIDGES = (" Also, ", " And ", " Then ", " After that, ", " And also ", " In addition, ")


def parallel_same(stage: Stage) -> Scene:
    """Request → several calls of one tool that differ in their arguments."""
    spec = stage.pick(lambda s: s.required_leaves)
    count = 2 + stage.count(75, 25)
    ways = [_sentences]
    if spec.vary:
        ways += [_listed, _listed]
    if spec.again:
        ways.append(_added)
    asks, text = stage.rng.choice(ways)(stage, spec, count)
    offered = [spec, *stage.others(stage.count(50, 35, 15), [spec])]
    opening = Ask(spec, text, {}, asks[0].firm)
    return Scene(tuple(offered), (User(manners(opening, stage.rng)), Calls(tuple(asks))))


def _different(stage: Stage, spec: ToolSpec, paths: set[str], base: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Sets of arguments that agree with ``base`` in all but ``paths``."""
    sets = [base]
    for _ in range(60):
        fresh = make_values(spec, stage.rng)
        candidate = {p: fresh[p] if p in paths else base[p] for p in base}
        if all(candidate[p] != other[p] for other in sets for p in sorted(paths)[:1]):
            sets.append(candidate)
        if len(sets) == count:
            break
    return sets


def _listed(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    rng = stage.rng
    path = rng.choice(spec.vary)
    sets = _different(stage, spec, {path}, make_values(spec, rng), count)
    template = rng.choice(spec.requests)
    parts = [say_value(spec, path, s[path], rng) for s in sets]
    both = join(parts) if len(sets) > 2 or rng.random() < 0.75 else " and also ".join(parts)
    before, after = template.split(f"{{{path}}}")
    text = fill(before, spec, sets[0], rng) + both + fill(after, spec, sets[0], rng)
    said = set(slots(template))
    for name, phrase in wishes(spec, template, sets[0], rng).items():
        text = attach(text, phrase)
        said |= spec.leaves_of({name})
    firm = template.startswith("{")
    return [Ask(spec, text, {p: s[p] for p in s if p in said}, firm) for s in sets], text


def _added(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    rng = stage.rng
    name = rng.choice(sorted(spec.again))
    phrases = [p for p in spec.again[name] if p.startswith(_ADDS)]
    first = ask(spec, rng)
    if not phrases or name not in {p.split(".")[0] for p in first.flat}:
        return _sentences(stage, spec, count)
    sets = _different(stage, spec, spec.leaves_of({name}), dict(first.flat), count)
    text = first.text
    for own in sets[1:]:
        text += ("" if text[-1] in ".?!" else ".") + " " + fill(rng.choice(phrases), spec, own, rng)
    return [first, *(Ask(spec, text, s) for s in sets[1:])], text


def _sentences(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    rng = stage.rng
    asks: list[Ask] = []
    while len(asks) < count:
        asked = ask(spec, rng)
        if all(asked.flat != other.flat for other in asks):
            asks.append(asked)
    text = asks[0].text
    for asked in asks[1:]:
        text += ("" if text[-1] in ".?!" else ".") + rng.choice(_BRIDGES) + lower_start(asked)
    return asks, text
