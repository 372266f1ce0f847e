"""Supervised tokens in colour: one colour per kind on the terminal, everything else dimmed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from callama.contract.spans import Kind
from callama.data.look.runs import Run

STYLES = {
    Kind.PROMPT: "dim",
    Kind.TEXT: "green",
    Kind.CALL_SYNTAX: "blue",
    Kind.FUNCTION_NAME: "bold magenta",
    Kind.ARGUMENT_KEY: "cyan",
    Kind.ARGUMENT_VALUE: "yellow",
    Kind.END_OF_TURN: "bold red",
}


def painted(runs: Sequence[Run]) -> Text:
    """The runs as text for a terminal; an answer that is not trained is dimmed and struck through."""
    out = Text()
    for run in runs:
        untrained = run.kind is not Kind.PROMPT and not run.trained
        out.append(run.text, f"{STYLES[run.kind]} dim strike" if untrained else STYLES[run.kind])
    return out


def legend() -> Text:
    """What the colours mean."""
    out = Text("kinds of tokens: ")
    for kind, style in STYLES.items():
        out.append(kind.name.lower().replace("_", " "), style)
        out.append(" · " if kind is not Kind.END_OF_TURN else "")
    return out
