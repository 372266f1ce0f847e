"""After an answer the user changes one argument ("And in Oslo?"): the second call keeps the rest."""

from __future__ import annotations

from callama.synth.speech import Ask, ask, fill, make_values, manners
from callama.synth.stage import Calls, Results, Say, Scene, Stage, User, answer_from, result_of


def follow_up(stage: Stage) -> Scene:
    """Request → call → result → answer → changed request → second call."""
    rng = stage.rng
    spec = stage.pick(lambda s: s.again and s.answers)
    name = rng.choice(sorted(spec.again))
    own = spec.leaves_of({name})
    asked = ask(spec, rng)
    result = result_of(asked, rng)
    flat = {**asked.flat}
    while all(flat.get(p) == asked.flat.get(p) for p in own):
        fresh = make_values(spec, rng)
        flat = {p: fresh[p] if p in own else flat[p] for p in spec.leaves if p in flat or p in own}
    second = Ask(spec, fill(rng.choice(spec.again[name]), spec, flat, rng), flat)
    turns = (
        User(manners(asked, rng)), Calls((asked,)), Results((result,)), Say(answer_from(asked, result, rng)),
        User(second.text), Calls((second,)),
    )  # fmt: skip
    offered = [spec, *stage.others(stage.count(75, 25), [spec])]
    return Scene(tuple(offered), turns)
