"""No tools at all: small talk is answered, and what would need a tool is declined without a call."""

from __future__ import annotations

from callama.synth.speech import Ask, ask, manners
from callama.synth.stage import Say, Scene, Stage, User, fill_talk_pair

_REFUSALS = (
    "I'm sorry, I can't {task}: I have no tools here.", "I have no tools in this chat, so I can't {task}.",
    "To {task} I would need a tool, and I have none here.", "Sorry, without tools I'm not able to {task}.",
)  # fmt: skip


# What is asked in these domains, such as a translation or the area of a circle, takes knowledge and no tool.
_KNOWLEDGE = frozenset(("chemistry", "geography_facts", "geometry", "language", "maths", "number_theory", "physics",
                        "statistics", "text_tools", "unit_conversion"))  # fmt: skip


def no_tools(stage: Stage) -> Scene:
    """A remark → answer, or a request → refusal in words."""
    rng = stage.rng
    spec = stage.pick(lambda s: s.domain not in _KNOWLEDGE)
    if rng.random() < 0.5:
        return Scene((), (User(manners(ask(spec, rng), rng)), Say(rng.choice(_REFUSALS).format(task=spec.task))))
    entry = rng.choice(stage.lines("chat", []))
    text, answer = fill_talk_pair(rng.choice(entry["says"]), rng.choice(entry["answers"]), rng)
    return Scene((), (User(manners(Ask(spec, text, {}), rng)), Say(answer)))
