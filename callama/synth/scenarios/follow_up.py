"""After an answer the user changes one argument ("And in Oslo?"): the second call keeps the rest."""

from __future__ import annotations

from callama.synth.speech import Ask, ask, changed, fill, manners
from callama.synth.stage import Calls, Results, Say, Scene, Stage, User, answer_from, result_of


def follow_up(stage: Stage) -> Scene:
    """Request → call → result → answer → changed request → second call."""
    rng = stage.rng
    spec = stage.pick(lambda s: s.again and s.answers)
    name = rng.choice(sorted(spec.again))
    own = spec.leaves_of({name})
    asked = ask(spec, rng, answered=True)
    result = result_of(asked, rng)
    flat = changed(spec, asked.flat, own, rng)
    second = Ask(spec, fill(rng.choice(spec.again[name]), spec, flat, rng), flat)
    turns = (
        User(manners(asked, rng)), Calls((asked,)), Results((result,)), Say(answer_from(asked, result, rng)),
        User(second.text), Calls((second,)),
    )  # fmt: skip
    offered = [spec, *stage.others(stage.count(75, 25), [spec])]
    return Scene(tuple(offered), turns)
