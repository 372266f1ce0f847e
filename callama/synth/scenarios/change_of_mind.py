"""The user changes their mind before anything is called: another value in the same breath, or another errand
in place of the answer to a question. Only what is wanted in the end is called."""

from __future__ import annotations

from callama.synth.catalogue import ToolSpec
from callama.synth.speech import Ask, ask, called, changed, ends_open, make_values, manners, one_mark, say_value
from callama.synth.stage import Calls, NoFitError, Say, Scene, Stage, User

_CHANGES = (
    "No, wait, make the {label} {new}.", "Actually, {new} instead of {old}.", "Sorry, I mean {new}, not {old}.",
    "Hold on: {new}, not {old}.", "Oh no, the {label} should be {new}.", "Correction: {new} rather than {old}.",
    "Scratch {old}, take {new}.", "I changed my mind, the {label} is {new}.",
)  # fmt: skip
_INSTEAD = (
    "Forget that. {}", "Never mind. {}", "Leave it. {}", "No, something else: {}", "Let's drop that. {}", "Not now. {}",
)  # fmt: skip


def change_of_mind(stage: Stage) -> Scene:
    """Request with a correction → call, or request → question → other request → call."""
    if stage.rng.random() < 0.65:
        return _other_value(stage)
    return _other_errand(stage)


def _other_value(stage: Stage) -> Scene:
    rng = stage.rng
    spec = stage.pick(lambda s: _changeable(s) and any(not ends_open(t) for t in s.requests))
    path = rng.choice(_changeable(spec))
    old = make_values(spec, rng)
    new = changed(spec, old, {path}, rng)[path]
    asked = ask(spec, rng, old, rng.choice([t for t in spec.requests if not ends_open(t)]))
    said = rng.choice(_CHANGES).format(
        label=called(spec, path), old=say_value(spec, path, old[path], rng), new=say_value(spec, path, new, rng)
    )
    text = one_mark(f"{asked.text}{'' if asked.text[-1] in '.?!' else '.'} {said}")
    wanted = Ask(spec, text, {**asked.flat, path: new}, asked.firm)
    offered = [spec, *stage.others(stage.count(65, 25, 10), [spec])]
    return Scene(tuple(offered), (User(manners(wanted, rng)), Calls((wanted,))))


def _changeable(spec: ToolSpec) -> list[str]:
    """Required single values on which no other value depends."""
    needed = {word for maker in spec.makers.values() for word in maker.split(" ")[1:2]}
    return [
        p
        for p in sorted(spec.required_leaves)
        if spec.leaves[p].get("type") in ("string", "integer", "number") and p not in needed and p not in spec.says
    ]


def _other_errand(stage: Stage) -> Scene:
    rng = stage.rng
    spec = stage.pick(lambda s: s.missing)
    offered = [spec, *stage.others(1 + stage.count(65, 25, 10), [spec])]
    if len(offered) < 2:
        raise NoFitError
    name = rng.choice(sorted(spec.missing))
    gap = spec.missing[name]
    first = ask(spec, rng, template=rng.choice(gap.requests))
    wanted = ask(rng.choice([s for s in offered if s is not spec]), rng)
    second = User(rng.choice(_INSTEAD).format(wanted.text))
    return Scene(tuple(offered), (User(manners(first, rng), (first,)), Say(gap.question), second, Calls((wanted,))))
