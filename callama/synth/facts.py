"""Facts about the world that invented results must not contradict; they stand in ``catalogue/_facts.json``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callama.common.files import read_json

_FACTS = Path(__file__).parent / "catalogue" / "_facts.json"


@functools.cache
def _facts() -> Mapping[str, Mapping[str, Any]]:
    facts: Mapping[str, Mapping[str, Any]] = read_json(_FACTS, "facts about the world")
    return facts


def fact(kind: str, name: str) -> Any:
    """What ``_facts.json`` says; None for a name that it does not know, such as a made-up one."""
    return _facts()[kind].get(name)
