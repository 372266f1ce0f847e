"""A required value is not given: the assistant asks back instead of inventing one, and mostly the user then
supplies it and the call follows. Half of the requests leave out one value, the others all of
them, as people do who start with what they want ("Could you book a table?")."""

from __future__ import annotations

from callama.synth.catalogue import ToolSpec, slots
from callama.synth.speech import Ask, ask, called, fill, join, make_values, manners, say_value
from callama.synth.stage import Calls, Say, Scene, Stage, Turn, User

_CONTINUED, _ALL, _GENERIC = 0.5, 0.35, 0.4
_OPENINGS = (
    "Could you {}?", "Can you {} for me?", "Please {}.", "I need you to {}.", "I'd like you to {}, please.",
    "{}, please", "Would you {}?", "I want you to {}.", "{}", "Help me {}.",
)  # fmt: skip
# Questions that fit any parameter: what to ask is read off the signature.
_QUESTIONS = (
    "What {is_are} the {what}?", "Could you tell me the {what}?", "Can you give me the {what}?",
    "I still need the {what}. What {is_are} {it}?", "May I have the {what}?", "Which {what} should I use?",
)  # fmt: skip


def missing_argument(stage: Stage) -> Scene:
    """Request without a required value → question (→ value → call)."""
    rng = stage.rng
    spec = stage.pick(lambda s: s.missing)
    flat = make_values(spec, rng)
    if rng.random() < _ALL and _sayable(spec):
        turns = _nothing_given(stage, spec, flat)
    else:
        turns = _one_left_out(stage, spec, flat)
    offered = [spec, *stage.others(stage.count(65, 25, 10), [spec])]
    return Scene(tuple(offered), tuple(turns))


def _one_left_out(stage: Stage, spec: ToolSpec, flat: dict[str, object]) -> list[Turn]:
    rng = stage.rng
    name = rng.choice(sorted(spec.missing))
    gap, own = spec.missing[name], spec.leaves_of({name})
    asked = ask(spec, rng, flat, rng.choice(gap.requests))
    # A nested object has a name that nobody would ask for ("May I have the slot?").
    generic = name in spec.leaves and rng.random() < _GENERIC
    question = _question(spec, [name], stage) if generic else gap.question
    turns: list[Turn] = [User(manners(asked, rng), (asked,)), Say(question)]
    if rng.random() < _CONTINUED:
        reply = rng.choice(gap.replies)
        said = set(slots(reply)) & own
        whole = {p: flat[p] for p in spec.leaves if p in asked.flat or p in said}
        turns += [User(fill(reply, spec, flat, rng)), Calls((Ask(spec, asked.text, whole),))]
    return turns


def _nothing_given(stage: Stage, spec: ToolSpec, flat: dict[str, object]) -> list[Turn]:
    rng = stage.rng
    names = [p for p in spec.leaves if p in spec.required]
    opening = rng.choice(_OPENINGS)
    text = opening.format(spec.task if not opening.startswith("{") else spec.task[:1].upper() + spec.task[1:])
    question = (
        spec.missing[names[0]].question
        if len(names) == 1 and rng.random() > _GENERIC
        else _question(spec, names, stage)
    )
    turns: list[Turn] = [User(manners(Ask(spec, text, {}), rng)), Say(question)]
    if rng.random() < _CONTINUED:
        values = [say_value(spec, p, flat[p], rng) for p in names]
        labelled = [f"{called(spec, p)}: {value}" for p, value in zip(names, values, strict=True)]
        reply = "\n".join(labelled) if rng.random() < 0.3 else ", ".join(rng.choice((labelled, values)))
        turns += [User(reply), Calls((Ask(spec, text, {p: flat[p] for p in names}),))]
    return turns


def _sayable(spec: ToolSpec) -> bool:
    return spec.required == spec.required_leaves and not any(
        spec.leaves[p].get("type") == "boolean" for p in spec.required
    )


def _question(spec: ToolSpec, names: list[str], stage: Stage) -> str:
    said = [called(spec, n) for n in names]
    what = join([name if i == 0 else f"the {name}" for i, name in enumerate(said)])
    question = stage.rng.choice(_QUESTIONS if len(names) == 1 else _QUESTIONS[:-1])
    noun = said[0].split(" in ")[0].split(" of ")[0]
    several = len(names) > 1 or (noun.endswith("s") and not noun.endswith(("ss", "us", "s's")))
    return question.format(what=what, is_are="are" if several else "is", it="they" if several else "it")
