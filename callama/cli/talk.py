"""Talking to a model that may call functions: a turn at a time, at a terminal.

A call is shown; its result is typed in, or the user's own Python function is run after asking. What was said can
be kept as training data: one record a chat, in the form that ``callama clean`` and ``callama build`` take.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_file, require_writable
from callama.common.terminal import printable
from callama.contract.grammar import Choice
from callama.contract.jsontext import canonical_result, dumps
from callama.contract.messages import Conversation, Message, Tool, ToolCall, dump_line
from callama.contract.tool_uses import parse_answer
from callama.generate.chat import ChatModel
from callama.generate.sampling import Sampling
from callama.tools.load import load_tools
from callama.tools.run import callables, run

YES = ("y", "yes")
DEFAULT_TOOLS = (
    Tool.from_dict(
        {
            "name": "get_current_weather",
            "description": "Get the current weather in a given location",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "description": "The city, e.g. Lisbon"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                },
                "required": ["location"],
            },
        }
    ),
)


@dataclass(frozen=True)
class Offer:
    """The tools of a chat, and the Python functions behind some of them."""

    tools: tuple[Tool, ...] = DEFAULT_TOOLS
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)


def read_offer(paths: Sequence[Path]) -> Offer:
    """The tools of these files, a weather tool without any; what cannot be used is said on standard error.

    Raises:
        UsageError: a file is missing. CallamaError: it holds no tools.
    """
    if not paths:
        return Offer()
    loaded = load_tools(paths)
    for remark in loaded.remarks:
        print(remark, file=sys.stderr)
    modules = [callables(path) for path in paths if path.suffix == ".py"]
    # Of two functions of one name the first is the tool.
    functions = {t.name: m[t.name] for m in reversed(modules) for t in loaded.tools if t.name in m}
    return Offer(loaded.tools, functions)


def require_savable(path: Path) -> None:
    """Makes sure, before a chat begins, that it can be kept.

    Raises:
        UsageError: a folder stands there, or nothing can be written.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for the conversations")
    require_writable(path.parent)


def talk(
    model: ChatModel,
    offer: Offer,
    *,
    system: str | None = None,
    sampling: Sampling,
    max_new_tokens: int,
    constrained: bool = False,
    save: Path | None = None,
) -> None:
    """Talks until an empty line; then appends the conversation to ``save``.

    Raises:
        CallamaError: the conversation has outgrown the model's context; it is kept before.
    """
    chat = _Chat(model, offer, sampling, max_new_tokens, Choice() if constrained else None)
    if system:
        chat.messages.append(Message("system", _unicode(system)))
    print(f"Functions: {', '.join(t.name for t in offer.tools)}. An empty line ends the chat.")
    try:
        while (text := _ask("you> ")) and chat.turn(text):
            pass
    finally:
        if save is not None:
            keep(chat.messages, offer.tools, save)


@dataclass
class _Chat:
    model: ChatModel
    offer: Offer
    sampling: Sampling
    max_new_tokens: int
    choice: Choice | None
    messages: list[Message] = field(default_factory=list)

    def turn(self, text: str) -> bool:
        """The user's message and all that follows from it; False when the user wants to end."""
        before = len(self.messages)
        self.messages.append(Message("user", text))
        while True:
            asked = [Conversation(tuple(self.messages), self.offer.tools)]
            (said,) = self.model.answer(asked, self.max_new_tokens, self.sampling, choice=self.choice)
            answer = parse_answer(said)
            if answer.text:
                print(f"model> {printable(answer.text)}")
            if answer.kind == "malformed":
                print(f"(a broken call: {answer.reason}; your last message is taken back)")
                del self.messages[before:]
                return True
            serial = sum(len(m.tool_calls) for m in self.messages)
            calls = tuple(ToolCall(c.name, c.arguments, f"call_{serial + i}") for i, c in enumerate(answer.calls))
            said_text = answer.text if answer.text.strip() else None
            self.messages.append(Message("assistant", said_text or (None if calls else " "), calls))
            if not calls:
                return True
            results = []
            for call in calls:
                if (result := self._result(call)) is None:
                    return False
                results.append(Message("tool", result, (), call.id))
            self.messages += results

    def _result(self, call: ToolCall) -> str | None:
        """What a call gives; None where the user wants to end."""
        print(f"call> {call.name}({dumps(call.arguments)})")
        function = self.offer.functions.get(call.name)
        typed = _ask(f"result of {call.name}> " if function is None else f"run {call.name}? y, or type the result> ")
        if not typed:
            return None
        if function is not None and typed.lower() in YES:
            result = run(function, call.arguments)
            print(f"result> {result}")
            return result
        return canonical_result(typed)


def keep(messages: Sequence[Message], tools: Sequence[Tool], path: Path) -> None:
    """Appends a conversation, up to the assistant's last turn, to a JSON Lines file; nothing without such a turn."""
    last = max((i for i, m in enumerate(messages) if m.role == "assistant" and (m.tool_calls or m.content != " ")),
               default=-1)  # fmt: skip
    if last < 0:
        print("nothing was said that could be kept", file=sys.stderr)
        return
    raw = Conversation(tuple(messages[: last + 1]), tuple(tools)).to_dict()
    try:
        line = dump_line(Conversation.from_dict(raw))  # what clean and build would refuse is not written
    except CallamaError as error:
        raise CallamaError(f"the conversation cannot be kept in {path}: {error}") from None
    known = path.read_bytes() if path.is_file() else b""
    with atomic_file(path) as temporary:
        temporary.write_bytes(known + b"\n" * (known[-1:] not in (b"", b"\n")) + line.encode() + b"\n")
    print(f"kept: {path}", file=sys.stderr)


def _unicode(text: str) -> str:
    """The same with what was no UTF-8 on its way in, which no tokenizer takes, replaced."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _ask(prompt: str) -> str:
    try:
        return _unicode(input(prompt)).strip()
    except EOFError:
        return ""
