"""The tool fails and nothing in the error helps: the assistant says so and invents no result. Sometimes
the user has it tried again, and it works."""

from __future__ import annotations

from callama.contract.messages import JsonObject
from callama.synth.speech import ask, manners
from callama.synth.stage import Calls, Results, Say, Scene, Stage, Turn, User, answer_from, result_of

# What the tool says, and how that is told.
_FAILURES: tuple[tuple[JsonObject, str], ...] = (
    ({"error": "service unavailable", "code": 503}, "the service is not available"),
    ({"error": "timeout after 30 s"}, "the service did not answer in time"),
    ({"status": "error", "message": "Too many requests, slow down."}, "the service takes no more requests just now"),
    ({"error": {"type": "internal_error", "message": "unexpected failure"}}, "the service reports an internal error"),
    ({"ok": False, "reason": "permission denied"}, "I don't have permission for that"),
    ({"status": 502, "detail": "Bad gateway"}, "the service behind it can't be reached"),
    ({"error": "down for maintenance"}, "the service is down for maintenance"),
    ({"success": False, "message": "database locked"}, "its database is locked"),
)  # fmt: skip
_REPORTS = (
    "I'm sorry, I couldn't {task}: {reason}.", "That didn't work: {reason}.", "Sorry, I tried to {task}, but {reason}.",
    "Unfortunately {reason}, so I couldn't {task}.",
)  # fmt: skip
_OFFERS = (" I can try again if you like.", " Tell me if I should try once more.", " You could try again later.", "")
_AGAIN = ("Yes, try again.", "Please try once more.", "Try again, please.", "Once more, please.", "Yes.", "Yes please")


def tool_failure(stage: Stage) -> Scene:
    """Request → call → error → report (→ "try again" → call → result → answer)."""
    rng = stage.rng
    spec = stage.pick(lambda s: s.answers)
    asked = ask(spec, rng, answered=True)
    error, reason = rng.choice(_FAILURES)
    report = rng.choice(_REPORTS).format(task=spec.task, reason=reason)
    again = rng.random() < 0.35
    offer = rng.choice(_OFFERS[:2] if again else _OFFERS)
    turns: list[Turn] = [User(manners(asked, rng)), Calls((asked,)), Results((error,)), Say(report + offer)]
    if again:
        result = result_of(asked, rng)
        turns += [User(rng.choice(_AGAIN)), Calls((asked,)), Results((result,)), Say(answer_from(asked, result, rng))]
    offered = [spec, *stage.others(stage.count(65, 25, 10), [spec])]
    return Scene(tuple(offered), tuple(turns))
