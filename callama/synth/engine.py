"""The engine: a seed becomes conversations. Group i depends on (seed, side, i) alone, so any number of
workers make the same data. A scenario writes a scene, the disguise says how its tools are shown, and
here both become messages.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from callama.common.errors import UsageError
from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, Message, ToolCall
from callama.synth.catalogue import FOLDER, OWN, Catalogue, Side, load_catalogue
from callama.synth.disguise import Costume, as_written, dress
from callama.synth.names import spelled
from callama.synth.scenarios import CASTS, SCENARIOS, shares
from callama.synth.stage import Calls, NoFitError, NoSceneError, Results, Say, Scene, Stage, Turn, User

# Conversations about the same tools cost less to train on, because what they open with is read once;
# a test asks about different tools each time.
GROUP_SIZE: Mapping[Side, int] = {"train": 6, "validation": 1, "held_out": 1}
_ALONE = 0.15  # how often a group's first tool has no other beside it
_SYSTEM = 0.15
_OF_TOOLS = re.compile(r"\b(?:tool|function)", re.IGNORECASE)
_TRIES = 200  # tools may be drawn that cannot play the one scenario that is wanted


def synthesise(
    count: int,
    seed: int,
    *,
    side: Side,
    scenarios: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    folder: Path = FOLDER,
) -> Iterator[Conversation]:
    """Yields ``count`` conversations, the same for the same arguments.

    Args:
        count: how many.
        seed: of the random choices.
        side: whose tools are used: of ``train``, ``validation`` or ``held_out``, and no others.
        scenarios: names to draw from; all by default.
        weights: how often scenarios occur, in place of their default weights.
        folder: the catalogue.

    Raises:
        UsageError: an unknown scenario, a negative weight or a negative count.
        CallamaError: the catalogue is damaged.
        NoSceneError: no tool of this side can play a scenario.
    """
    chosen = shares(scenarios, weights)
    if count < 0:
        raise UsageError(f"the count must not be negative, found {count}")
    load_catalogue(folder)
    groups = (group(i, seed, side=side, weights=chosen, folder=folder) for i in itertools.count())
    return itertools.islice(itertools.chain.from_iterable(groups), count)


def group(
    number: int, seed: int, *, side: Side, weights: Mapping[str, float], folder: Path = FOLDER
) -> list[Conversation]:
    """Group number ``number`` of ``synthesise``; lets workers take any part of the row. ``weights`` is what
    ``scenarios.shares`` gives.

    The conversations of a group are about the same tools, as those of a deployed assistant are.

    Raises:
        NoSceneError: no tool of this side can play one of these scenarios.
    """
    catalogue = load_catalogue(folder)
    rng = random.Random(f"{seed}:{side}:{number}")
    stage = Stage(rng, catalogue.side(side), catalogue.talk, side, catalogue.foreign(side))
    scenes = _scenes(stage, weights, GROUP_SIZE[side])
    cast = list({spec.name: spec for _, scene in scenes for spec in scene.offered}.values())
    used: dict[str, set[str]] = {s.name: set() for s in cast}
    for turn in (turn for _, scene in scenes for turn in scene.turns):
        for asked in turn.asks if isinstance(turn, Calls | User) else ():
            # What is only mentioned must stay on show too: asking for it would make no sense otherwise.
            used[asked.spec.name] |= set(asked.arguments)
    costumes: dict[str, Costume] = {}
    own = {s.name: spelled(s.name) for s in cast}
    for spec in cast:
        # Only training tools are disguised: a test shows tools as their authors wrote them. No disguise
        # may spell the name of a tool of another side, or one that another tool of this scene may keep.
        taken = {spelled(c.tool.name) for c in costumes.values()} | {n for name, n in own.items() if name != spec.name}
        taken |= catalogue.foreign(side)
        costumes[spec.name] = (
            dress(spec, used[spec.name], taken, rng) if side == "train" and spec.side != OWN else as_written(spec)
        )
    tools = tuple(costumes[s.name].tool for s in rng.sample(cast, len(cast)))
    system = [Message("system", rng.choice(_systems(catalogue, bool(tools))))] if rng.random() < _SYSTEM else []
    return [
        Conversation((*system, *_messages(scene.turns, costumes)), tools, {"scenario": scenario, "side": side})
        for scenario, scene in scenes
    ]


def _systems(catalogue: Catalogue, with_tools: bool) -> list[str]:
    """What a system may say: where there are no tools, nothing of them."""
    said: list[str] = catalogue.talk["system"]
    return said if with_tools else [text for text in said if not _OF_TOOLS.search(text)]


def _scenes(stage: Stage, weights: Mapping[str, float], size: int) -> list[tuple[str, Scene]]:
    """Scenes about the same tools, with the names of their scenarios."""
    for _ in range(_TRIES):
        try:
            if size == 1:
                return [_scene(stage, weights)]
            # A scenario with a cast of its own takes the whole group, so that it occurs as often as its weight says.
            name = stage.rng.choices(list(weights), list(weights.values()))[0]
            if name in CASTS:
                playing = replace(stage, cast=CASTS[name](stage))
                return [(name, SCENARIOS[name](playing)) for _ in range(size)]
            first = stage.pick()
            cast = (first, *stage.others(0 if stage.rng.random() < _ALONE else stage.many(), [first]))
            common = {n: weight for n, weight in weights.items() if n not in CASTS}
            return [_scene(replace(stage, cast=cast), common) for _ in range(size)]
        except NoFitError:
            continue
    raise NoSceneError(f"no tool of the side {stage.side} can play {', '.join(weights)}")


def _scene(stage: Stage, weights: Mapping[str, float]) -> tuple[str, Scene]:
    """A scene of one of these scenarios that the stage's tools can play."""
    left = dict(weights)
    while left:
        name = stage.rng.choices(list(left), list(left.values()))[0]
        try:
            return name, SCENARIOS[name](stage)
        except NoFitError:
            del left[name]
    raise NoFitError


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
