"""The dialogues that ``chat_completion.py`` runs: one for each thing a model with tools must get right,
from asking back to answering without any tool."""

from __future__ import annotations

from typing import Any, NamedTuple

from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, ToolCall
from callama.contract.tool_uses import parse_answer


class Dialogue(NamedTuple):
    """A conversation that waits for the assistant, under a title that says what is being looked at."""

    title: str
    conversation: Conversation


def _tool(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """A tool whose parameters are all required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _number(description: str) -> dict[str, Any]:
    return {"type": "number", "description": description}


def _dialogue(title: str, tools: list[dict[str, Any]], *messages: dict[str, Any]) -> Dialogue:
    return Dialogue(title, Conversation.from_dict({"tools": tools, "messages": messages}))


def _said(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


_RATE_FILM = _tool(
    "rate_film",
    "Store a viewer's verdict on a film",
    title=_text("Name of the film"),
    stars=_number("Verdict from 1 (poor) to 10 (superb)"),
    comment=_text("What the viewer has to say about it"),
)
_TIP = _tool(
    "tip_for_bill",
    "Work out the tip on a restaurant bill",
    bill=_number("Sum on the bill, without the tip"),
    percent=_number("Tip in percent of the bill"),
)
_FIND_BOOKS = _tool(
    "find_books", "Look through a library's catalogue", words=_text("Words from a title, an author or a genre")
)
_CHECK_EMAIL = _tool(
    "check_email", "Tell whether an e-mail address is well formed", address=_text("The address", format="email")
)
_EXCHANGE = _tool(
    "exchange_money",
    "Convert a sum of money between two currencies",
    sum=_number("How much money"),
    source=_text("Currency that it is in, as an ISO 4217 code"),
    target=_text("Currency wanted, as an ISO 4217 code"),
)

_FILM = (
    _said("user", "Last night I saw Arrival at the cinema. Please put my rating on record."),
    _said("assistant", "Gladly. How many stars from 1 to 10 do you give Arrival, and what did you think of it?"),
    _said("user", "8 stars. Slow at first, but the ending made me rethink every scene."),
)
_FILM_CALL = {
    "role": "assistant",
    "tool_calls": [
        {
            "function": {
                "name": "rate_film",
                "arguments": {
                    "title": "Arrival",
                    "stars": 8,
                    "comment": "Slow at first, but the ending made me rethink every scene.",
                },
            }
        }
    ],
}
_EMAIL = (
    _said("user", "I am not sure about my e-mail address. Could you check that it is well formed?"),
    _said("assistant", "Of course. Which address shall I check?"),
    _said("user", "It is ada.lovelace@example.org"),
)

DIALOGUES = (
    _dialogue("A rating is missing: ask for it", [_RATE_FILM], _FILM[0]),
    _dialogue("The rating was given: call", [_RATE_FILM], *_FILM),
    _dialogue(
        "The call has a result: answer from it",
        [_RATE_FILM],
        *_FILM,
        _FILM_CALL,
        _said("tool", '{"stored": true, "ratings_so_far": 214, "average_stars": 7.9}'),
    ),
    _dialogue(
        "A tip", [_TIP], _said("user", "Dinner came to 80 dollars and I would like to leave 15 percent. How much?")
    ),
    _dialogue(
        "A search for books", [_FIND_BOOKS], _said("user", "Which novels do you have with 'river' in the title?")
    ),
    _dialogue("An address is missing: ask for it", [_CHECK_EMAIL, _EXCHANGE], _EMAIL[0]),
    _dialogue("The address was given: call", [_CHECK_EMAIL, _EXCHANGE], *_EMAIL),
    _dialogue(
        "Money to exchange, two tools to choose from",
        [_CHECK_EMAIL, _EXCHANGE],
        _said("user", "What are 250 Swiss francs (CHF) worth in Japanese yen (JPY)?"),
    ),
    _dialogue(
        "Plain chat, no tools, no system message",
        [],
        _said("user", "We have two days in Lisbon. Where should we go?"),
        _said(
            "assistant",
            "Start with these:\n1. Alfama, the oldest quarter, with its stairs, tiles and viewpoints.\n"
            "2. Belém, for the monastery, the tower and warm custard tarts.\n"
            "3. A ferry across the Tejo at sunset.",
        ),
        _said("user", "Tell me more about number 2."),
    ),
    _dialogue(
        "Plain chat under a system message",
        [],
        _said("system", "You answer in rhymes."),
        _said("user", "How do I get from Oslo to Bergen?"),
    ),
)


def _called(calls: tuple[ToolCall, ...]) -> str:
    return "; ".join(f"{call.name}({dumps(call.arguments)})" for call in calls)


def transcript(dialogue: Dialogue, answer: str, whole: bool = True) -> str:
    """The dialogue as a person would read it, the model's own turn marked with ``>``; not ``whole``: as cut."""
    lines = [f"== {dialogue.title}"]
    if tools := dialogue.conversation.tools:
        lines.append(f"(functions: {', '.join(tool.name for tool in tools)})")
    for message in dialogue.conversation.messages:
        if message.content is not None:
            lines.append(f"{message.role.capitalize()}: {message.content}")
        if message.tool_calls:
            lines.append(f"{message.role.capitalize()} calls {_called(message.tool_calls)}")
    parsed = parse_answer(answer)
    if parsed.kind == "malformed":
        lines.append(f"> Assistant, a broken call ({parsed.reason}): {answer.strip()}")
    elif parsed.text or not parsed.calls:
        lines.append(f"> Assistant: {parsed.text.strip()}")
    if parsed.calls:
        lines.append(f"> Assistant calls {_called(parsed.calls)}")
    if not whole:
        lines.append("> (cut: the answer is longer than it may be)")
    return "\n".join(lines)
