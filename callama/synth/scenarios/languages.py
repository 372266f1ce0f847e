"""Requests in other languages than English: one call, two calls, or a refusal in the user's language. The tools
stay English, and values stand in the call as the user wrote them. The sentences stand in the catalogue, under
``languages``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callama.synth.catalogue import SLOT, ToolSpec, slots
from callama.synth.speech import Ask, NoFitError, make_values
from callama.synth.stage import Calls, Say, Scene, Stage, User

_TWO, _NONE = 0.25, 0.15
_REFUSALS: Mapping[str, tuple[str, ...]] = {
    "de": ("Dafür habe ich leider kein Werkzeug.", "Das kann ich leider nicht: Mir fehlt ein Werkzeug dafür."),
    "fr": ("Je n'ai malheureusement pas d'outil pour cela.", "Désolé, je ne peux pas le faire avec mes outils."),
    "es": ("Lo siento, no tengo ninguna herramienta para eso.", "No puedo hacerlo con las herramientas que tengo."),
    "it": ("Mi dispiace, non ho uno strumento per questo.", "Non posso farlo con gli strumenti che ho."),
    "pt": ("Infelizmente não tenho nenhuma ferramenta para isso.", "Não consigo fazer isso com as minhas ferramentas."),
}


def cast(stage: Stage) -> tuple[ToolSpec, ...]:
    """Up to four tools that can be asked for in another language."""
    able = [s for s in stage.specs if s.languages]
    if not able:
        raise NoFitError
    first = stage.rng.choice(able)
    others = [s for s in able if s.name not in (first.name, *first.like)]
    return (first, *stage.rng.sample(others, min(len(others), stage.count(20, 40, 25, 15))))


def languages(stage: Stage) -> Scene:
    """Request in another language → call, or two requests → two calls, or request that nothing fits → refusal."""
    rng = stage.rng
    offered = stage.cast or cast(stage)
    draw = rng.random()
    if draw < _NONE:
        names = {name for s in offered for name in (s.name, *s.like)}
        domains = {s.domain for s in offered}
        absent = [s for s in stage.specs if s.languages and s.name not in names and s.domain not in domains]
        if absent:
            spec = rng.choice(absent)
            code = rng.choice(sorted(spec.languages))
            return Scene(offered, (User(_asked(stage, spec, code).text), Say(rng.choice(_REFUSALS[code]))))
    spec = rng.choice(offered)
    code = rng.choice(sorted(spec.languages))
    asks = [_asked(stage, spec, code)]
    if draw > 1 - _TWO:
        asks.append(_asked(stage, rng.choice([s for s in offered if code in s.languages]), code))
        if asks[0].arguments == asks[1].arguments and asks[0].spec is asks[1].spec:
            asks.pop()
    text = " ".join(a.text for a in asks)
    return Scene(offered, (User(text), Calls(tuple(asks))))


def _asked(stage: Stage, spec: ToolSpec, code: str) -> Ask:
    template = stage.rng.choice(spec.languages[code])
    flat = make_values(spec, stage.rng)
    said = set(slots(template))
    text = SLOT.sub(lambda slot: _plain(flat[slot[1]]), template)
    return Ask(spec, text, {p: flat[p] for p in spec.leaves if p in said})


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
