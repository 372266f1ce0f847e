"""A required value is not given: the assistant asks back instead of inventing one, and mostly the
user then supplies it and the call follows."""

from __future__ import annotations

from callama.synth.catalogue import slots
from callama.synth.speech import Ask, ask, fill, make_values, manners
from callama.synth.stage import Calls, Say, Scene, Stage, Turn, User

_CONTINUED = 0.55


def missing_argument(stage: Stage) -> Scene:
    """Request without a required value → question (→ value → call)."""
    rng = stage.rng
    spec = stage.pick(lambda s: s.missing)
    name = rng.choice(sorted(spec.missing))
    gap, own = spec.missing[name], spec.leaves_of({name})
    flat = make_values(spec, rng)
    asked = ask(spec, rng, flat, rng.choice(gap.requests))
    turns: list[Turn] = [User(manners(asked, rng)), Say(gap.question)]
    if rng.random() < _CONTINUED:
        reply = rng.choice(gap.replies)
        said = set(slots(reply)) & own
        whole = {p: flat[p] for p in spec.leaves if p in asked.flat or p in said}
        turns += [User(fill(reply, spec, flat, rng)), Calls((Ask(spec, asked.text, whole),))]
    offered = [spec, *stage.others(stage.count(65, 25, 10), [spec])]
    return Scene(tuple(offered), tuple(turns))
