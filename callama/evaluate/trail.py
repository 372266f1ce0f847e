"""What is kept of each case beside the report: enough to compare two runs and to read every mistake."""

from __future__ import annotations

from typing import Any

from callama.evaluate.report import request, said, wanted
from callama.evaluate.score import Outcome


def trail(outcome: Outcome) -> dict[str, Any]:
    """One case, its answer and its verdict as JSON."""
    case = outcome.case
    return {
        "case": case.id,
        "scenario": case.scenario,
        "functions": sorted({call.name for call in case.expected.tool_calls}),
        "request": request(case),
        "wanted": wanted(case),
        "said": said(outcome),
        "right": outcome.right,
        "error": outcome.error,
        "arguments": [[argument.type, argument.verdict] for argument in outcome.arguments.judged],
        "reply": outcome.reply.to_dict(),
    }
