"""The kinds of conversation, one file each, and how often each occurs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from callama.synth.scenarios.answer_from_result import answer_from_result
from callama.synth.scenarios.choice import choice
from callama.synth.scenarios.decline import decline
from callama.synth.scenarios.follow_up import follow_up
from callama.synth.scenarios.missing_argument import missing_argument
from callama.synth.scenarios.parallel_different import parallel_different
from callama.synth.scenarios.parallel_same import parallel_same
from callama.synth.scenarios.plain_chat import plain_chat
from callama.synth.scenarios.single import single
from callama.synth.stage import Scene, Stage

Scenario = Callable[[Stage], Scene]
SCENARIOS: Mapping[str, Scenario] = {
    f.__name__: f
    for f in (
        single, choice, parallel_same, parallel_different, missing_argument, decline, answer_from_result,
        plain_chat, follow_up,
    )
}  # fmt: skip
# Calls dominate, because an exact call is what is hardest to learn; the rest keeps the model from calling always.
DEFAULT_WEIGHTS: Mapping[str, int] = {
    "single": 18, "choice": 21, "parallel_same": 14, "parallel_different": 12, "missing_argument": 12, "decline": 9,
    "answer_from_result": 5, "plain_chat": 4, "follow_up": 5,
}  # fmt: skip
