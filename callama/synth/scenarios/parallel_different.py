"""Two wishes in one request that need two functions; both calls stand in one answer, in the order
in which they were asked for."""

from __future__ import annotations

from callama.synth.speech import Ask, ask, lower_start, manners
from callama.synth.stage import Calls, NoFitError, Scene, Stage, User

_BRIDGES = (" Also, ", " And ", " Then ", " After that, ", " And also ", " One more thing: ", " Besides, ")


def parallel_different(stage: Stage) -> Scene:
    """Request for two things → two calls."""
    rng = stage.rng
    first = stage.pick()
    beside = stage.others(1, [first])
    if not beside:
        raise NoFitError
    second = beside[0]
    asks = (ask(first, rng), ask(second, rng))
    text = asks[0].text
    bridge = rng.choice(_BRIDGES) if rng.random() < 0.8 or "\n" in asks[1].text else "\n"
    text += ("" if text[-1] in ".?!" else ".") + bridge
    text += asks[1].text if bridge == "\n" else lower_start(asks[1])
    offered = [first, second, *stage.others(stage.count(60, 30, 10), [first, second])]
    return Scene(tuple(offered), (User(manners(Ask(first, text, {}, asks[0].firm), rng)), Calls(asks)))
