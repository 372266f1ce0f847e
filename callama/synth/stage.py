"""What every scenario works with: the tools it may use, and the turns of which a scene is made.

Scenarios speak the catalogue's own names and know nothing of disguises, ids or messages; the engine
turns their scenes into conversations.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.messages import JsonObject
from callama.synth import values
from callama.synth.catalogue import Side, ToolSpec, invent
from callama.synth.speech import Ask, join, put
from callama.synth.speech import NoFitError as NoFitError

# An ordinary word, no id or file, at the start of a sentence.
_PLAIN_START = re.compile(r"[a-z]+[,.]?( |$)")


_LASTING = ("full_name", "job", "title")  # kinds of values that a thing keeps from call to call
_NEAR_MISS = 0.6
_MANY = (28, 27, 18, 10, *(2.2,) * 4, *(0.7,) * 11)


@dataclass(frozen=True)
class User:
    """The user says something; ``asks`` is what is asked for there and may never be called."""

    text: str
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True)
class Say:
    """The assistant answers in words."""

    text: str


@dataclass(frozen=True)
class Calls:
    """The assistant calls: one or several at once."""

    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Results:
    """What the calls before it gave, in their order."""

    values: tuple[JsonObject, ...]


Turn = User | Say | Calls | Results


@dataclass(frozen=True)
class Scene:
    """Tools on offer and the turns of a conversation."""

    offered: tuple[ToolSpec, ...]
    turns: tuple[Turn, ...]


class NoSceneError(CallamaError):
    """The tools at hand can play none of the scenarios asked for."""


@dataclass(frozen=True)
class Stage:
    """One side of the catalogue and a seeded generator; ``foreign`` are the other sides' names, as
    ``spelled``. Where the tools on offer are settled already, they are the ``cast``."""

    rng: random.Random
    specs: tuple[ToolSpec, ...]
    talk: JsonObject
    side: Side
    foreign: frozenset[str]
    cast: tuple[ToolSpec, ...] = ()

    def pick(self, fits: Callable[[ToolSpec], Any] = lambda spec: True) -> ToolSpec:
        """A tool with the property that the scenario needs.

        Raises:
            NoFitError: there is none.
        """
        return self._one([s for s in self.cast or self.specs if fits(s)])

    def absent(self) -> ToolSpec:
        """A tool that is not on offer, often one of the same domain as some that are: what nearly fits is what a
        model calls wrongly."""
        blocked = _rivals(self.cast)
        free = [s for s in self.specs if s.name not in blocked]
        domains = {s.domain for s in self.cast}
        near = [s for s in free if s.domain in domains]
        return self._one(near if near and self.rng.random() < _NEAR_MISS else free)

    def _one(self, fitting: Sequence[ToolSpec]) -> ToolSpec:
        if not fitting:
            raise NoFitError
        return self.rng.choice(fitting)

    def others(self, count: int, beside: Sequence[ToolSpec], near: float = 0.4) -> list[ToolSpec]:
        """Tools that stand beside the one that is meant: ``count`` of them, with ``near`` the share from the
        same domain, or the rest of the cast.

        Raises:
            NoFitError: some were asked for, and the cast has none.
        """
        if self.cast:
            rest = [s for s in self.cast if s not in beside]
            if count and not rest:
                raise NoFitError
            return self.rng.sample(rest, len(rest))
        chosen: list[ToolSpec] = []
        blocked = _rivals(beside)
        domains = {b.domain for b in beside}
        while len(chosen) < count:
            free = self.specs
            if self.rng.random() < near:
                free = tuple(s for s in self.specs if s.domain in domains and s.name not in blocked) or free
            one = self._unblocked(free, blocked)
            if one is None:
                break
            chosen.append(one)
            blocked |= _rivals([one])
        return chosen

    def _unblocked(self, specs: Sequence[ToolSpec], blocked: set[str]) -> ToolSpec | None:
        # Few are blocked as a rule: drawing again is cheaper than looking at all.
        for _ in range(8):
            if specs and (one := self.rng.choice(specs)).name not in blocked:
                return one
        free = [s for s in specs if s.name not in blocked]
        return self.rng.choice(free) if free else None

    def count(self, *weights: int) -> int:
        """0, 1, 2 … with these weights."""
        return self.rng.choices(range(len(weights)), weights)[0]

    def many(self) -> int:
        """1, 2, 3 …, rarely up to 19: how many tools stand beside one that is to be chosen. Every tool costs
        tokens, so long lists are a thin tail; the mean is 3."""
        return self.rng.choices(range(1, 20), _MANY)[0]

    def lines(self, key: str, offered: Sequence[ToolSpec]) -> list[Any]:
        """This side's share of the small talk, but for what some tool on offer could do: every third
        entry is held out from the other two."""
        domains = {s.domain for s in offered}
        own = [e for i, e in enumerate(self.talk[key]) if (i % 3 == 2) is (self.side == "held_out")]
        return [e for e in own if domains.isdisjoint(e.get("avoid", ()))]


def _rivals(specs: Sequence[ToolSpec]) -> set[str]:
    """Names of these tools and of all that could do the errand of one of them."""
    return {name for s in specs for name in (s.name, *s.like)}


def result_of(asked: Ask, rng: random.Random, about: Ask | None = None) -> JsonObject:
    """An invented result of a call, which agrees with its arguments, and where it tells of what an earlier call is
    ``about`` (the person that was hired), with that call's too.

    Raises:
        NoFitError: the call asks for something that no invented result holds (only the likes, the hourly values).
    """
    if any(asked.flat.get(name) for name in asked.spec.no_result_with):
        raise NoFitError
    told = {about.spec.makers[p]: value for p, value in about.flat.items()} if about else {}
    return invent(asked.spec, asked.flat, rng, {kind: told[kind] for kind in _LASTING if kind in told})


def answer_from(asked: Ask, result: JsonObject, rng: random.Random) -> str:
    """The result in prose."""
    known = {**asked.flat, **result}
    text = put(rng.choice(asked.spec.answers), lambda path: _in_prose(known[path]))
    return text[:1].upper() + text[1:] if _PLAIN_START.match(text) else text


def _in_prose(value: Any) -> str:
    if isinstance(value, list):
        return join([str(v) for v in value]) if value else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def fill_talk(template: str, rng: random.Random) -> str:
    """Small talk with its slots filled; a slot names a maker: ``{city}``."""
    return fill_talk_pair(template, "", rng)[0]


def fill_talk_pair(says: str, answers: str, rng: random.Random) -> tuple[str, str]:
    """A remark and its answer, with the same values in the same slots."""
    made: dict[str, str] = {}

    def one(maker: str) -> str:
        if maker not in made:
            made[maker] = str(values.make(maker, rng))
        return made[maker]

    return put(says, one), put(answers, one)
