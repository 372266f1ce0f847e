"""What reading a file of functions gives: the tools that can be used, and everything that cannot, with its place.

Every reader reports in this form, so that one bad function never costs the others and none
disappears in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from callama.common.errors import CallamaError
from callama.contract.messages import JsonObject, Tool
from callama.contract.signatures import render_signature


class Remark(NamedTuple):
    """Something that the user has to know: ``where`` it stands, ``what`` was found, and whether the function
    could not be used for it (``lost``)."""

    where: str
    what: str
    lost: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Loaded:
    """The tools of one or more files, in their order, with unique names; ``gives`` has the schemas of their results,
    by the tool's name, where they are known, ``places`` where each tool stands."""

    tools: tuple[Tool, ...]
    remarks: tuple[Remark, ...] = ()
    gives: Mapping[str, JsonObject] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    def place_of(self, tool: Tool) -> str:
        """Where a tool stands, its name with it."""
        place = self.places.get(tool.name, tool.name)
        return place if tool.name in place else f"{place} ({tool.name})"

    @property
    def lost(self) -> tuple[Remark, ...]:
        """What could not be used."""
        return tuple(remark for remark in self.remarks if remark.lost)


class Candidate(NamedTuple):
    """One function as a reader found it: its place, its tool or what keeps it from being one, and its result's
    schema."""

    where: str
    found: Tool | Remark
    gives: JsonObject | None = None


def settle(candidates: Iterable[Candidate]) -> Loaded:
    """Keeps what can be shown to a model; of functions with one name the first."""
    tools: dict[str, Tool] = {}
    places: dict[str, str] = {}
    remarks: list[Remark] = []
    gives: dict[str, JsonObject] = {}
    for where, found, result in candidates:
        if isinstance(found, Remark):
            remarks.append(found)
        elif found.name in tools:
            remarks.append(Remark(where, f"a function of this name stands already at {places[found.name]}"))
        else:
            try:
                render_signature(found)
            except CallamaError as error:
                remarks.append(Remark(where, str(error)))
                continue
            tools[found.name], places[found.name] = found, where
            if result:
                gives[found.name] = result
    return Loaded(tuple(tools.values()), tuple(remarks), gives, places)


def each(entries: Iterable[tuple[str, object]]) -> Iterator[Candidate]:
    """Tools in any form that ``Tool.from_dict`` reads, each at its place."""
    for where, raw in entries:
        try:
            gives = raw.get("outputSchema") if isinstance(raw, Mapping) else None
            yield Candidate(where, Tool.from_dict(raw), gives if isinstance(gives, dict) else None)
        except CallamaError as error:
            yield Candidate(where, Remark(where, str(error)))
