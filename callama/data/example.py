"""One conversation to one row of a built data set: rendered, cut where it is too long, checked.

The renderer is the one that chat and evaluation use, and what it wrote must survive the round trip:
parsing the supervised tokens gives back the calls and texts that went in.
"""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np

from callama.common.errors import CallamaError
from callama.contract import tool_uses
from callama.contract.messages import Conversation, Message
from callama.data.dataset import Example
from callama.data.split import functions_of
from callama.text.render import Rendered, Renderer, TrainOn

REASONS = {
    "unrenderable": "an assistant's text would be read as a call, or something is too large to be written",
    "no_answer": "no assistant message to learn from",
    "too_long": "not even the first answer ends within the limit of tokens",
    "round_trip": "the supervised tokens do not read back as the calls and texts that went in",
}


def example_of(
    conversation: Conversation, renderer: Renderer, train_on: TrainOn, max_tokens: int, source: int = -1
) -> Example:
    """Renders and checks one conversation, record ``source`` of all.

    Raises:
        CallamaError: it cannot be learned from; the message starts with a reason's code and a colon.
    """
    try:
        rendered = renderer.conversation(conversation)
    except CallamaError as error:
        raise CallamaError(f"unrenderable: {error}") from None
    if not rendered.answers:
        raise CallamaError("no_answer: no assistant message to learn from")
    whole_tokens, kept = len(rendered.ids), conversation
    if whole_tokens > max_tokens:
        kept, rendered = _cut(conversation, rendered, renderer, max_tokens)
    if fault := round_trip_fault(kept, rendered, renderer):
        raise CallamaError(f"round_trip: {fault}")
    return Example(
        # By way of buffers: numpy takes three times as long to read a list of numbers.
        np.frombuffer(array("i", rendered.ids), np.int32),
        np.frombuffer(bytes(rendered.kinds), np.int8),
        np.frombuffer(bytes(rendered.supervised(train_on)), np.bool_),
        tuple(sorted(functions_of(conversation))),
        str(conversation.labels.get("scenario", "")),
        source,
        answers=tuple(answer_kind(m) for m in kept.messages if m.role == "assistant"),
        cut_tokens=whole_tokens - len(rendered.ids),
        opening_tokens=rendered.opening,
    )


def _cut(
    conversation: Conversation, rendered: Rendered, renderer: Renderer, max_tokens: int
) -> tuple[Conversation, Rendered]:
    """The longest beginning that ends with an answer and fits.

    That is sound: an answer depends on nothing behind it, so every answer that is left has all that
    it was given for. A conversation whose first answer does not fit has no such beginning.
    """
    fitting = sum(end <= max_tokens for _, end in rendered.answers)
    if not fitting:
        first = rendered.answers[0][1]
        raise CallamaError(
            f"too_long: {len(rendered.ids)} tokens, its first answer ends at {first}, the limit is {max_tokens}"
        )
    kept = beginning(conversation, fitting)
    # The frame's tokens behind the stop token (ChatML's newline) may not fit; nothing is learned from them.
    cut = renderer.conversation(kept)
    return kept, Rendered(cut.ids[:max_tokens], cut.kinds[:max_tokens], cut.answers, cut.opening)


def beginning(conversation: Conversation, answers: int) -> Conversation:
    """The conversation up to its answer number ``answers``, counted from 1."""
    ends = [i + 1 for i, message in enumerate(conversation.messages) if message.role == "assistant"]
    return replace(conversation, messages=conversation.messages[: ends[answers - 1]])


def answer_kind(message: Message) -> str:
    """``text``, ``call``, ``calls`` (several in one answer), or ``text+call`` and ``text+calls``."""
    calls = ("", "call")[len(message.tool_calls)] if len(message.tool_calls) < 2 else "calls"
    return "+".join(filter(None, ("text" if message.content else "", calls)))


def round_trip_fault(conversation: Conversation, rendered: Rendered, renderer: Renderer) -> str | None:
    """Why parsing the supervised tokens does not give the assistant's messages back; None where it does."""
    said = [m for m in conversation.messages if m.role == "assistant"]
    if len(said) != len(rendered.answers):
        return f"{len(said)} assistant messages became {len(rendered.answers)} answers"
    for message, (start, end) in zip(said, rendered.answers, strict=True):
        answer = tool_uses.parse_answer(renderer.tokenizer.decode(rendered.ids[start : end - 1]))
        wanted = [(c.name, c.arguments) for c in message.tool_calls]
        if [(c.name, c.arguments) for c in answer.calls] != wanted or answer.text != (message.content or ""):
            return f"read back as {answer.kind}: {answer.reason or answer.text[:80]!r}"
    return None
