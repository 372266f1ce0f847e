"""Call, result, and an answer in prose that uses the result."""

from __future__ import annotations

from callama.synth.speech import ask, manners
from callama.synth.stage import Calls, Results, Say, Scene, Stage, User, answer_from, result_of


def answer_from_result(stage: Stage) -> Scene:
    """Request → call → result → answer."""
    rng = stage.rng
    spec = stage.pick(lambda s: s.answers)
    asked = ask(spec, rng, answered=True)
    result = result_of(asked, rng)
    offered = [spec, *stage.others(stage.count(70, 30), [spec])]
    turns = (User(manners(asked, rng)), Calls((asked,)), Results((result,)), Say(answer_from(asked, result, rng)))
    return Scene(tuple(offered), turns)
