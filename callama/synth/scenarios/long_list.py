"""Very many tools, 12 to 40, of which one fits: neighbours of its own domain are among them."""

from __future__ import annotations

from callama.synth.catalogue import ToolSpec
from callama.synth.speech import ask, manners
from callama.synth.stage import Calls, Scene, Stage, User


def cast(stage: Stage) -> tuple[ToolSpec, ...]:
    """A long list of tools."""
    first = stage.pick()
    return (first, *stage.others(stage.rng.choice((11, 15, 19, 24, 31, 39)), [first], near=0.3))


def long_list(stage: Stage) -> Scene:
    """Request → call of the one tool that fits."""
    offered = stage.cast or cast(stage)
    asked = ask(stage.rng.choice(offered), stage.rng, alone=True)
    return Scene(offered, (User(manners(asked, stage.rng)), Calls((asked,))))
