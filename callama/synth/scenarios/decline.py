"""No tool on offer fits: the assistant says so and names what it can do. The request belongs to a
tool of the catalogue that is absent, or to nothing in it at all."""

from __future__ import annotations

from callama.synth.speech import Ask, ask, manners
from callama.synth.stage import Say, Scene, Stage, User, fill_talk

_REFUSALS = (
    "Sorry, I can't {wish} with the tools I have. I can {can}.",
    "I'm afraid I have no tool to {wish}, but I can {can}.",
    "I'm sorry, I'm not able to {wish}. What I can do is {can}.",
    "I don't have a tool to {wish}. I can {can} if you like.",
)


def decline(stage: Stage) -> Scene:
    """Request that nothing fits → refusal in words."""
    rng = stage.rng
    if rng.random() < 0.75:
        absent = stage.absent()
        asked = ask(absent, rng)
        beside = [s for s in stage.specs if s.domain == absent.domain] if rng.random() < 0.7 else [absent]
        offered = stage.others(1 + stage.count(55, 35, 10), beside, near=0.0 if len(beside) > 1 else 0.8)
        text, wish = manners(asked, rng), absent.task
    else:
        offered = stage.others(1 + stage.count(55, 35, 10), [], near=0.0)
        entry = rng.choice(stage.lines("requests", offered))
        wish = entry["task"]
        text = manners(Ask(offered[0], fill_talk(rng.choice(entry["requests"]), rng), {}), rng)
    can = " or ".join(s.task for s in offered[:2])
    return Scene(tuple(offered), (User(text), Say(rng.choice(_REFUSALS).format(wish=wish, can=can))))
