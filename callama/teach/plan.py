"""What a teacher is asked to write: item number n of a seed is a scenario, the tools on offer and an instruction.

Values and manner are drawn here and told to the teacher, so that requests differ even from a server
that always answers alike, and so that every run of a seed asks for the same.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from callama.common.errors import UsageError
from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, Message, Tool
from callama.synth.catalogue import Catalogue, Side, ToolSpec
from callama.synth.speech import label, make_values
from callama.synth.stage import NoFitError, Stage

# Which calls an answer must hold: names in order, or none at all.
SCENARIOS: Mapping[str, int] = {
    "single": 20, "choice": 25, "parallel_same": 12, "parallel_different": 12, "missing_argument": 15, "decline": 10,
    "plain_chat": 6,
}  # fmt: skip
_MANNERS = (
    "terse, a few words", "chatty, with a reason why it is needed", "a polite question", "a plain statement",
    "hurried, with small typing mistakes outside the values", "the values spread over two or three sentences",
    "formal", "an order, without please",
)  # fmt: skip
_OPTIONAL = 0.4
ALSO = "; and, in the same message, this: "  # between two wishes
_WANTS = "Write a message in which a user wants this: {wish}."
_WRITER = (
    "You write messages that users send to an assistant with tools. You answer with the message alone: no quotation "
    "marks around it, no comment, no JSON."
)
ASSISTANT = (
    "You are an assistant with tools. Call the tools that the request needs, all at once, with the values that the "
    "user gave and no others. If a required value is missing, ask for it. If no tool fits, say so and say what you can "
    "do."
)


@dataclass(frozen=True)
class Wish:
    """What the user wants of a function, the values that the message says, by parameter, and the parameter whose value
    is missing, if one is."""

    spec: ToolSpec
    said: Mapping[str, Any]
    gap: str = ""

    @property
    def text(self) -> str:
        """As the teacher is told."""
        listed = ", ".join(f"{label(n)} {_written(v)}" for n, v in self.said.items())
        return f"{self.spec.task}, with {listed}" if listed else self.spec.task


@dataclass(frozen=True)
class Plan:
    """One conversation to be written; ``wanted`` are the functions that the answer calls, in any order, ``told`` is the
    instruction but for the tools and wishes."""

    scenario: str
    tools: tuple[Tool, ...]
    wanted: tuple[str, ...]
    wishes: tuple[Wish, ...]
    instruction: str
    told: str

    def writing(self) -> Conversation:
        """What the teacher is sent to get the user's message."""
        return Conversation((Message("system", _WRITER), Message("user", self.instruction)))

    def answering(self, request: str) -> Conversation:
        """What the teacher is sent to get the assistant's answer."""
        return Conversation((Message("system", ASSISTANT), Message("user", request)), self.tools)


def plan(number: int, seed: int, side: Side, catalogue: Catalogue, scenarios: Sequence[str] | None) -> Plan:
    """Item ``number`` of a side.

    Raises:
        UsageError: an unknown scenario, or the functions can play none of those named.
    """
    names = list(scenarios or SCENARIOS)
    if unknown := [n for n in names if n not in SCENARIOS]:
        raise UsageError(f"a teacher knows no scenario {unknown[0]!r}; known: {', '.join(SCENARIOS)}")
    rng = random.Random(f"teach:{seed}:{side}:{number}")
    stage = Stage(rng, catalogue.side(side), catalogue.talk, side, catalogue.foreign(side))
    left = list(names)
    while left:
        # Those asked for by name take turns, so that none is absent by chance.
        turn = names[number % len(names)] if scenarios and len(left) == len(names) else ""
        name = turn or rng.choices(left, [SCENARIOS[n] for n in left])[0]
        try:
            return _plan(name, stage)
        except NoFitError:
            left.remove(name)
    raise UsageError(f"the functions given can play none of: {', '.join(names)}")


def _plan(name: str, stage: Stage) -> Plan:
    rng = stage.rng
    if name == "plain_chat":
        offered = stage.others(1 + stage.count(50, 35, 15), [])
        text = (
            "Write a message of small talk, or a question of general knowledge, that none of these tools can help with."
        )
        return _finished(name, offered, (), (), text, rng)
    if name == "decline":
        absent = stage.absent()
        offered = stage.others(1 + stage.count(50, 35, 15), [absent])
        return _finished(name, offered, (), (_wish(absent, rng),), _WANTS, rng)
    if name == "missing_argument":
        spec = stage.pick(lambda s: s.required)
        gap = rng.choice(sorted(spec.required))
        wish = _wish(spec, rng, gap)
        text = f"{_WANTS} The user forgets to say the {label(gap)}: neither it nor any value for it may occur."
        offered = [spec, *stage.others(stage.count(60, 30, 10), [spec])]
        return _finished(name, offered, (), (wish,), text, rng)
    specs = [stage.pick()]
    if name == "parallel_same":
        specs = [stage.pick(lambda s: s.required and s.again)] * 2
    elif name == "parallel_different":
        specs += stage.others(1, specs)
        if len(specs) < 2:
            raise NoFitError
    wishes = tuple(_wish(s, rng) for s in specs)
    beside = stage.others(1 + stage.count(45, 35, 20) if name == "choice" else stage.count(60, 30, 10), specs)
    if name == "choice" and not beside:
        raise NoFitError
    shown = [*{s.name: s for s in specs}.values(), *beside]
    return _finished(name, shown, tuple(s.name for s in specs), wishes, _WANTS, rng)


def _wish(spec: ToolSpec, rng: random.Random, gap: str = "") -> Wish:
    made = make_values(spec, rng)
    said = {n: v for n, v in made.items() if n != gap and (n in spec.required or rng.random() < _OPTIONAL)}
    return Wish(spec, said, gap)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)


def _finished(
    name: str,
    offered: Sequence[ToolSpec],
    wanted: tuple[str, ...],
    wishes: tuple[Wish, ...],
    text: str,
    rng: random.Random,
) -> Plan:
    if not offered:
        raise NoFitError
    tools = tuple(s.tool for s in rng.sample(offered, len(offered)))
    shown = dumps([t.to_dict()["function"] for t in tools])
    told = (
        f"{text}\nManner: {rng.choice(_MANNERS)}. Say every value that is given here, exactly as it is given, and "
        "invent no others. Do not name any tool."
    )
    filled = told.replace("{wish}", ALSO.join(wish.text for wish in wishes), 1)
    return Plan(name, tools, wanted, wishes, f"The assistant has these tools:\n{shown}\n\n{filled}", told)
