"""The engine: a seed becomes conversations. Conversation i depends on (seed, side, i) alone, so any
number of workers make the same data. A scenario writes a scene, the disguise says how its tools are
shown, and here both become messages.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from callama.common.errors import UsageError
from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, Message, ToolCall
from callama.synth.catalogue import FOLDER, Side, load_catalogue
from callama.synth.disguise import Costume, as_written, dress
from callama.synth.names import spelled
from callama.synth.scenarios import DEFAULT_WEIGHTS, SCENARIOS
from callama.synth.stage import Calls, Results, Say, Scene, Stage, Turn, User

_SYSTEM = 0.15


def synthesise(
    count: int, seed: int, *, side: Side, scenarios: Sequence[str] | None = None, folder: Path = FOLDER
) -> Iterator[Conversation]:
    """Yields ``count`` conversations, the same for the same arguments.

    Args:
        count: how many.
        seed: of the random choices.
        side: whose tools are used: of ``train``, ``validation`` or ``held_out``, and no others.
        scenarios: names to draw from, with their default weights; all by default.
        folder: the catalogue.

    Raises:
        UsageError: an unknown scenario or a negative count.
        CallamaError: the catalogue is damaged.
    """
    names = list(scenarios) if scenarios is not None else list(SCENARIOS)
    if unknown := [n for n in names if n not in SCENARIOS]:
        raise UsageError(f"unknown scenario {unknown[0]!r}; known: {', '.join(SCENARIOS)}")
    if not names:
        raise UsageError(f"no scenario given; known: {', '.join(SCENARIOS)}")
    if count < 0:
        raise UsageError(f"the count must not be negative, found {count}")
    load_catalogue(folder)
    return (conversation(i, seed, side=side, scenarios=names, folder=folder) for i in range(count))


def conversation(index: int, seed: int, *, side: Side, scenarios: Sequence[str], folder: Path = FOLDER) -> Conversation:
    """Conversation number ``index`` of ``synthesise``; lets workers take any part of the row."""
    rng = random.Random(f"{seed}:{side}:{index}")
    catalogue = load_catalogue(folder)
    name = rng.choices(scenarios, [DEFAULT_WEIGHTS[n] for n in scenarios])[0]
    stage = Stage(rng, catalogue.side(side), catalogue.talk, side, catalogue.foreign(side))
    scene = SCENARIOS[name](stage)
    return _play(scene, stage, name)


def _play(scene: Scene, stage: Stage, scenario: str) -> Conversation:
    rng = stage.rng
    used: dict[str, set[str]] = {s.name: set() for s in scene.offered}
    for turn in scene.turns:
        for asked in turn.asks if isinstance(turn, Calls) else ():
            used[asked.spec.name] |= set(asked.arguments)
    costumes: dict[str, Costume] = {}
    for spec in scene.offered:
        # Only training tools are disguised: a test shows tools as their authors wrote them. No disguise
        # may spell the name of a tool of another side, or one that another tool of this scene may keep.
        taken = {spelled(c.tool.name) for c in costumes.values()} | {
            spelled(s.name) for s in scene.offered if s is not spec
        }
        taken |= stage.foreign
        costumes[spec.name] = dress(spec, used[spec.name], taken, rng) if stage.side == "train" else as_written(spec)
    order = list(scene.offered)
    rng.shuffle(order)
    messages = []
    if rng.random() < _SYSTEM:
        messages.append(Message("system", rng.choice(stage.talk["system"])))
    messages += _messages(scene.turns, costumes)
    labels = {"scenario": scenario, "side": stage.side}
    return Conversation(tuple(messages), tuple(costumes[s.name].tool for s in order), labels)


def _messages(turns: Sequence[Turn], costumes: dict[str, Costume]) -> Iterator[Message]:
    serial = 0
    open_ids: list[str] = []
    for turn in turns:
        if isinstance(turn, User):
            yield Message("user", turn.text)
        elif isinstance(turn, Say):
            yield Message("assistant", turn.text)
        elif isinstance(turn, Calls):
            open_ids = [f"call_{serial + i}" for i in range(len(turn.asks))]
            serial += len(turn.asks)
            yield Message("assistant", None, tuple(_calls(turn, costumes, open_ids)))
        elif isinstance(turn, Results):
            for value, call_id in zip(turn.values, open_ids, strict=True):
                yield Message("tool", dumps(value), (), call_id)


def _calls(turn: Calls, costumes: dict[str, Costume], ids: Sequence[str]) -> Iterator[ToolCall]:
    for asked, call_id in zip(turn.asks, ids, strict=True):
        costume = costumes[asked.spec.name]
        yield ToolCall(costume.tool.name, costume.arguments(asked.arguments), call_id)
