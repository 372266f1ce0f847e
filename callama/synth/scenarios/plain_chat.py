"""Small talk and questions of general knowledge while tools lie ready: answered in words."""

from __future__ import annotations

from callama.synth.speech import Ask, manners
from callama.synth.stage import Say, Scene, Stage, User, fill_talk_pair


def plain_chat(stage: Stage) -> Scene:
    """A remark or question that needs no tool → answer in words."""
    rng = stage.rng
    offered = stage.others(1 + stage.count(60, 30, 10), [], near=0.0)
    entry = rng.choice(stage.lines("chat", offered))
    text, answer = fill_talk_pair(rng.choice(entry["says"]), rng.choice(entry["answers"]), rng)
    return Scene(tuple(offered), (User(manners(Ask(offered[0], text, {}), rng)), Say(answer)))
