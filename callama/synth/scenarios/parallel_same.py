"""Two to four calls of one function in one answer: "for Lisbon and for Oslo". The values are listed in
one sentence, added behind it, paired off ("respectively"), numbered, or said in a sentence each."""

from __future__ import annotations

import re
from typing import Any

from callama.synth.catalogue import ToolSpec, slots
from callama.synth.speech import (
    Ask,
    ask,
    attach,
    called,
    changed,
    fill,
    join,
    lower_start,
    make_values,
    manners,
    one_mark,
    say_value,
    wishes,
)  # fmt: skip
from callama.synth.stage import Calls, NoFitError, Scene, Stage, User

# "Better on Friday" replaces a wish instead of adding one.
_ADDS = ("And", "Also", "The same", "Same", "Another", "Then", "After that", "{")
_BRIDGES = (" Also, ", " And ", " Then ", " After that, ", " And also ", " In addition, ", " Next, ", " Plus: ")
_LIKEWISE = (
    "Do the same with {}.", "And once more with {}.", "Likewise for {}.", "The same with {}.", "Also for {}.",
    "And again, but with {}.",
)  # fmt: skip
_HEADS = (
    "I need {n} things:", "{n} things, please:", "Please do these {n}:", "Do all of these:",
    "These {n} at once, please:",
)  # fmt: skip
_SMALL = ("in", "for", "of", "on", "at", "to", "from", "with", "by", "about")
_SINGULAR_BEFORE = re.compile(
    r"(\b(is|has|does|was|did|an?|this|that|each|number)|'s)( the| my| our)?( \w+)?( called| named)? $"
    r"|\b(number|id|called|named|card|request|ticket|event|customer|deal|chart|file|film|table|server|cluster) $"
    r"|\b(campaign|order|truck|permit|element|planet|station|channel|playlist|machine|VM|list|hotel|team|player) $"
    r"|\bI'm (\w+ )?(at|in|on) (the \w+ )?$|[-#(\"]$",
    re.IGNORECASE,
)
_SINGULAR_AFTER = re.compile(
    r"['\")-]| (is|has|was|needs|does|costs|runs|should|can|must|works|looks)\b"
    r"| (hangs|seems|owes|drives|gets|shows|went|can't|cinema|zoo|cm tiles)\b"
)
_ONE_THING = re.compile(r"\b(it|its|that (account|card|one)|posts|them)\b")
_COUNTS = {2: "two", 3: "three", 4: "four"}


def parallel_same(stage: Stage) -> Scene:
    """Request → several calls of one tool that differ in their arguments."""
    spec = stage.pick(lambda s: s.required_leaves)
    count = 2 + stage.count(78, 18, 4)
    ways = [_sentences, _numbered, _likewise]
    if spec.vary:
        ways += [_listed] * 4
    if len(spec.vary) > 1:
        ways.append(_paired)
    if spec.again:
        ways += [_added] * 2
    asks, text = stage.rng.choice(ways)(stage, spec, count)
    offered = [spec, *stage.others(stage.count(50, 35, 15), [spec])]
    opening = Ask(spec, text, {}, asks[0].firm)
    return Scene(tuple(offered), (User(manners(opening, stage.rng)), Calls(tuple(asks))))


def _different(stage: Stage, spec: ToolSpec, paths: set[str], base: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Sets of arguments that agree with ``base`` in all but ``paths``: two at least, ``count`` at most.

    Raises:
        NoFitError: the values are too few to differ.
    """
    sets = [base]
    for _ in range(60):
        candidate = changed(spec, base, paths, stage.rng)
        if all(candidate[p] != other[p] for other in sets for p in sorted(paths)[:1]):
            sets.append(candidate)
        if len(sets) == count:
            break
    if len(sets) < 2:
        raise NoFitError
    return sets


def _listed(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    """``How warm is it in Lisbon and Oslo?``"""
    rng = stage.rng
    path = rng.choice(spec.vary)
    sets = _different(stage, spec, {path}, make_values(spec, rng), count)
    fitting = [t for t in spec.requests if _takes_several(t, path)]
    if not fitting:
        return _sentences(stage, spec, count)
    template = rng.choice(fitting)
    before, after = template.split(f"{{{path}}}")
    parts = [say_value(spec, path, s[path], rng) for s in sets]
    # "in Lisbon and in Oslo": the small word before the value is said again.
    word = before.rstrip().rsplit(" ", 1)[-1]
    small = word in _SMALL and before.endswith(" ")
    if small and rng.random() < 0.3:
        both = f" and {word} ".join(parts)
    elif len(sets) == 2:
        forms = ("{} and {}", "{} and {}", "{} and {}", "{} and also {}", *(("both {} and {}",) if small else ()))
        both = rng.choice(forms).format(*parts)
    else:
        both = join(parts)
    text = fill(before, spec, sets[0], rng) + both + fill(after, spec, sets[0], rng)
    said = set(slots(template))
    for name, phrase in wishes(spec, template, sets[0], rng).items():
        text = attach(text, phrase)
        said |= spec.leaves_of({name})
    return [Ask(spec, text, {p: s[p] for p in s if p in said}, template.startswith("{")) for s in sets], text


def _takes_several(template: str, path: str) -> bool:
    """Whether two values can stand where one does: no verb or article beside it agrees with a single one."""
    before, after = template.split(f"{{{path}}}")
    return not (_SINGULAR_BEFORE.search(before) or _SINGULAR_AFTER.match(after) or _ONE_THING.search(after))


def _paired(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    """``From Lisbon and Oslo to Rome and Bern respectively.``"""
    rng = stage.rng
    paths = rng.sample(spec.vary, 2)
    sets = _different(stage, spec, set(paths), make_values(spec, rng), count)
    template = rng.choice(spec.requests)
    lists = {p: [say_value(spec, p, s[p], rng) for s in sets] for p in paths}
    worded = template
    for path in paths:
        worded = worded.replace(f'"{{{path}}}"', join([f'"{said}"' for said in lists[path]]))  # in quotes each is one
        worded = worded.replace(f"{{{path}}}", join(lists[path]))
    text = attach(fill(worded, spec, sets[0], rng), "respectively")
    said = set(slots(template))
    return [Ask(spec, text, {p: s[p] for p in s if p in said}, template.startswith("{")) for s in sets], text


def _added(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    """``How warm is it in Lisbon? And in Oslo?``"""
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


def _likewise(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    """``Book a table at Casa Velmar for 4. Do the same with restaurant The Owl and party size 2.``"""
    rng = stage.rng
    plain = [p for p in sorted(spec.required_leaves) if spec.leaves[p].get("type") in ("string", "integer", "number")]
    if not plain or len(spec.required_leaves) > 4:
        return _sentences(stage, spec, count)
    paths = set(rng.sample(plain, min(len(plain), 1 + stage.count(55, 45))))
    first = ask(spec, rng)
    sets = _different(stage, spec, paths, dict(first.flat), count)
    text = first.text
    for own in sets[1:]:
        said = [f"{called(spec, p)} {say_value(spec, p, own[p], rng)}" for p in first.flat if p in paths]
        text += ("" if text[-1] in ".?!" else ".") + " " + one_mark(rng.choice(_LIKEWISE).format(join(said)))
    return [first, *(Ask(spec, text, s) for s in sets[1:])], text


def _several(stage: Stage, spec: ToolSpec, count: int) -> list[Ask]:
    asks: list[Ask] = []
    for _ in range(60):
        asked = ask(spec, stage.rng)
        if all(asked.flat != other.flat for other in asks):
            asks.append(asked)
        if len(asks) == count:
            break
    if len(asks) < 2:
        raise NoFitError
    return asks


def _numbered(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    """``I need two things: 1. … 2. …``, as lines or in a row."""
    rng = stage.rng
    asks = _several(stage, spec, count)
    if any("\n" in a.text for a in asks):
        return _joined(stage, asks)
    head = rng.choice(_HEADS).format(n=_COUNTS[len(asks)])
    head = head[:1].upper() + head[1:]
    mark, between = rng.choice((("{}. ", "\n"), ("- ", "\n"), ("({}) ", " "), ("{}) ", " ")))
    items = [mark.format(i + 1) + a.text for i, a in enumerate(asks)]
    return [Ask(spec, a.text, a.flat) for a in asks], head + between + between.join(items)


def _sentences(stage: Stage, spec: ToolSpec, count: int) -> tuple[list[Ask], str]:
    """A sentence for each."""
    return _joined(stage, _several(stage, spec, count))


def _joined(stage: Stage, asks: list[Ask]) -> tuple[list[Ask], str]:
    rng = stage.rng
    first, *rest = asks
    text = first.text
    if rng.random() < 0.2:
        text, asks = f"First, {lower_start(first)}", [Ask(first.spec, first.text, first.flat), *rest]
    for asked in rest:
        text += ("" if text[-1] in ".?!" else ".") + rng.choice(_BRIDGES) + lower_start(asked)
    return asks, text
