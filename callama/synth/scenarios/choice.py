"""Two to twenty tools, four as a rule, of which one fits: mostly neighbours from its own domain stand beside it, so
that names and descriptions have to be read."""

from __future__ import annotations

from callama.synth.speech import ask, manners
from callama.synth.stage import Calls, Scene, Stage, User


def choice(stage: Stage) -> Scene:
    """Request → call of the one tool that fits."""
    spec = stage.pick()
    asked = ask(spec, stage.rng, alone=True)
    offered = [spec, *stage.others(stage.many(), [spec], near=0.7)]
    return Scene(tuple(offered), (User(manners(asked, stage.rng)), Calls((asked,))))
