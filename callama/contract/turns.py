"""A conversation as turns: what each role says, as typed text, before any tokenizer or markup.

Writing (``render_turns``) and reading (``parse_turns``) stand side by side and are inverse to each
other, so that what was supervised can always be read back as what was meant. Markup between turns
belongs to the tokenizer's family and is added one floor up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation, Message, Role, Tool, ToolCall, link_results
from callama.contract.spans import Kind, Segment
from callama.contract.tool_uses import answer_segments, parse_answer, parse_results, results_text, system_text


class Turn(NamedTuple):
    """One turn: who speaks, and the typed runs of text that are said."""

    role: Role
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The turn's text, without markup."""
        return "".join(segment.text for segment in self.segments)


def _prompt(role: Role, text: str) -> Turn:
    return Turn(role, (Segment(text, Kind.PROMPT),) if text else ())


def render_turns(conversation: Conversation) -> list[Turn]:
    """The conversation's turns in order.

    The tools join the first message if that is a system message, or make a system turn of their
    own; the results that follow a message's calls become one turn of role ``tool``.

    Raises:
        CallamaError: an assistant's text would be read as a call, or a tool's schema is too large.
    """
    messages = conversation.messages
    system = messages[0].content if messages and messages[0].role == "system" else None
    turns: list[Turn] = []
    if (text := system_text(system, conversation.tools)) is not None:
        turns.append(_prompt("system", text))
    results: list[str] = []
    for message in messages[0 if system is None else 1 :]:
        if message.role == "tool":
            results.append(message.content or "")
            continue
        if results:
            turns.append(_prompt("tool", results_text(results)))
            results = []
        if message.role == "assistant":
            turns.append(Turn("assistant", tuple(answer_segments(message))))
        else:
            turns.append(_prompt(message.role, message.content or ""))
    if results:
        turns.append(_prompt("tool", results_text(results)))
    return turns


def parse_turns(turns: Sequence[Turn], tools: Sequence[Tool]) -> Conversation:
    """The conversation that ``render_turns`` was given, with ids ``call_0``, ``call_1`` … throughout.

    Raises:
        CallamaError: the system turn does not show ``tools``, an answer is malformed, or results
            do not match their calls; the message names the turn.
    """
    messages: list[Message] = []
    if tools:
        system, turns = _without_tools(turns, tools), turns[1:]
        if system is not None:
            messages.append(Message("system", system))
    for index, turn in enumerate(turns, start=1 if tools else 0):
        if turn.role == "assistant":
            messages.append(_read_answer(turn.text, index))
        elif turn.role == "tool":
            messages += [Message("tool", content) for content in parse_results(turn.text)]
        else:
            messages.append(Message(turn.role, turn.text))
    return Conversation(tuple(link_results(messages)), tuple(tools))


def _without_tools(turns: Sequence[Turn], tools: Sequence[Tool]) -> str | None:
    block = system_text(None, tools) or ""
    text = turns[0].text if turns and turns[0].role == "system" else ""
    if text == block:
        return None
    if not text.endswith(f"\n\n{block}"):
        raise CallamaError("turn 0 must be a system turn that ends by showing the tools given")
    return text.removesuffix(f"\n\n{block}")


def _read_answer(text: str, index: int) -> Message:
    answer = parse_answer(text)
    if answer.kind == "malformed":
        raise CallamaError(f"turn {index}: malformed answer: {answer.reason}")
    calls = tuple(ToolCall(call.name, call.arguments) for call in answer.calls)
    return Message("assistant", answer.text or None, calls)
