"""One request, one call; the tool stands alone or beside one or two of other domains."""

from __future__ import annotations

from callama.synth.speech import ask, manners
from callama.synth.stage import Calls, Scene, Stage, User


def single(stage: Stage) -> Scene:
    """Request → call."""
    spec = stage.pick()
    asked = ask(spec, stage.rng, alone=True)
    offered = [spec, *stage.others(stage.count(60, 30, 10), [spec], near=0.0)]
    return Scene(tuple(offered), (User(manners(asked, stage.rng)), Calls((asked,))))
