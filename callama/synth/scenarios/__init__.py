"""The kinds of conversation, one file each, and how often each occurs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from callama.common.errors import UsageError
from callama.synth.catalogue import ToolSpec
from callama.synth.scenarios import languages as _languages
from callama.synth.scenarios import long_list as _long_list
from callama.synth.scenarios import sequence as _sequence
from callama.synth.scenarios.answer_from_result import answer_from_result
from callama.synth.scenarios.change_of_mind import change_of_mind
from callama.synth.scenarios.choice import choice
from callama.synth.scenarios.corrected_call import corrected_call
from callama.synth.scenarios.decline import decline
from callama.synth.scenarios.follow_up import follow_up
from callama.synth.scenarios.injection import injection
from callama.synth.scenarios.invalid_value import invalid_value
from callama.synth.scenarios.missing_argument import missing_argument
from callama.synth.scenarios.no_tools import no_tools
from callama.synth.scenarios.parallel_different import parallel_different
from callama.synth.scenarios.parallel_same import parallel_same
from callama.synth.scenarios.plain_chat import plain_chat
from callama.synth.scenarios.single import single
from callama.synth.scenarios.tool_failure import tool_failure
from callama.synth.stage import Scene, Stage

Scenario = Callable[[Stage], Scene]
SCENARIOS: Mapping[str, Scenario] = {
    f.__name__: f
    for f in (
        single, choice, parallel_same, parallel_different, missing_argument, decline, answer_from_result,
        plain_chat, follow_up, _sequence.sequence, invalid_value, corrected_call, tool_failure, change_of_mind,
        _languages.languages, injection, _long_list.long_list, no_tools,
    )
}  # fmt: skip
# Calls dominate, because an exact call is what is hardest to learn. Asking back and several calls at once
# were learned worst by a model that saw a thousand conversations, so they come next, and then that no tool
# fits; what is read rather than written (errors, injections, long lists) needs fewer.
DEFAULT_WEIGHTS: Mapping[str, float] = {
    "single": 14, "choice": 15, "parallel_same": 16, "parallel_different": 9, "missing_argument": 20, "decline": 12,
    "answer_from_result": 4, "plain_chat": 4, "follow_up": 3, "sequence": 2, "invalid_value": 2, "corrected_call": 1,
    "tool_failure": 1, "change_of_mind": 2, "languages": 1, "injection": 1, "long_list": 1, "no_tools": 1,
}  # fmt: skip
# Scenarios whose tools are not any tools: a group of conversations about the same tools is theirs as a whole.
CASTS: Mapping[str, Callable[[Stage], tuple[ToolSpec, ...]]] = {
    "sequence": _sequence.cast, "languages": _languages.cast, "long_list": _long_list.cast,
    "no_tools": lambda stage: (),
}  # fmt: skip


def shares(names: Sequence[str] | None = None, weights: Mapping[str, float] | None = None) -> dict[str, float]:
    """How often each scenario occurs: the default weights of the named ones (of all by default), with ``weights``
    in their place where given; a weight of 0 leaves a scenario out.

    Raises:
        UsageError: an unknown scenario, a negative weight, or nothing left.
    """
    chosen = {n: DEFAULT_WEIGHTS.get(n, 0.0) for n in (DEFAULT_WEIGHTS if names is None else names)} | dict(
        weights or {}
    )
    if unknown := [n for n in chosen if n not in SCENARIOS]:
        raise UsageError(f"unknown scenario {unknown[0]!r}; known: {', '.join(SCENARIOS)}")
    if below := [n for n, weight in chosen.items() if not 0 <= weight < float("inf")]:
        raise UsageError(f"the weight of {below[0]} must be 0 or more, found {chosen[below[0]]}")
    left = {n: float(weight) for n, weight in chosen.items() if weight}
    if not left:
        raise UsageError(f"no scenario given; known: {', '.join(SCENARIOS)}")
    return left
