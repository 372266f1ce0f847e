"""Talking to a model that may call functions: a turn at a time, at a terminal.

A call is shown; its result is typed in, or the user's own Python function is run after asking. What was said can
be kept as training data: one record a chat, in the form that ``callama clean`` and ``callama build`` take.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_file, require_file, require_writable
from callama.common.terminal import printable
from callama.contract.grammar import Choice
from callama.contract.jsontext import canonical_result, dumps
from callama.contract.messages import Conversation, Message, Tool, ToolCall, dump_line
from callama.contract.tool_uses import Answer, parse_answer
from callama.data.checks import Declared
from callama.data.sources import PACKED_SUFFIXES
from callama.generate.chat import ChatModel
from callama.generate.sampling import Sampling
from callama.tools.load import load_tools
from callama.tools.python_module import callables
from callama.tools.run import run

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
    """Makes sure, before a chat begins, that it can be kept: as one more line of JSON Lines.

    Raises:
        UsageError: a folder or a file of another form stands there, its name says so, or nothing can be written.
        CallamaError: the file may not be read.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for the conversations")
    if path.suffix.lower() in (*PACKED_SUFFIXES, ".parquet"):
        raise UsageError(
            f"{path} names a packed file; expected JSON Lines that a chat can be appended to, as chats.jsonl"
        )
    if path.is_file() and not _is_lines(path):
        raise UsageError(f"{path} does not start with a JSON object on one line, so that none can be appended; "
                         "name a file of JSON Lines, or a new one")  # fmt: skip
    require_writable(path.parent)


def _is_lines(path: Path) -> bool:
    """Whether a file's first line that is not blank is a JSON object; an empty file can become one of lines."""
    with require_file(path, "JSON Lines").open("rb") as file:
        line = next((line for line in file if line.strip()), b"{}")
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


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
    with suppress(ImportError):
        import readline  # noqa: F401  (keys that edit a line, and lines of more than 4,095 bytes)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is no text is replaced as it is read
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
            whole: dict[int, bool] = {}
            (said,) = self.model.answer(asked, self.max_new_tokens, self.sampling, whole.__setitem__, self.choice)
            answer = parse_answer(said)
            if answer.text.strip():
                print(f"model> {printable(answer.text)}")
            over = f"an answer that is not whole after {self.max_new_tokens} tokens" if not all(whole.values()) else ""
            if fault := over or self._fault(answer):
                print(f"({printable(fault)}; your last message is taken back)")
                del self.messages[before:]
                return True
            serial = sum(len(m.tool_calls) for m in self.messages)
            calls = tuple(ToolCall(c.name, c.arguments, f"call_{serial + i}") for i, c in enumerate(answer.calls))
            self.messages.append(Message("assistant", answer.text or None, calls))
            if not calls:
                return True
            results = []
            for call in calls:
                if (result := self._result(call)) is None:
                    return False
                results.append(Message("tool", result, (), call.id))
            self.messages += results

    def _fault(self, answer: Answer) -> str:
        """Why an answer can be neither gone on from nor learnt from; empty where it can."""
        if answer.kind == "malformed":
            return f"a broken call: {answer.reason}"
        if not answer.calls and not answer.text.strip():
            return "an empty answer"
        for call in answer.calls:
            shown = f"{call.name}({dumps(call.arguments)})"
            tool = next((tool for tool in self.offer.tools if tool.name == call.name), None)
            if tool is None:
                return f"a call of a function that is not offered: {shown}"
            if (fault := Declared(tool).fault(call.arguments)) is not None:
                return f"a call that does not fit its function: {shown}: {fault.detail}"
        return ""

    def _result(self, call: ToolCall) -> str | None:
        """What a call gives; None where the user wants to end."""
        print(printable(f"call> {call.name}({dumps(call.arguments)})"))
        function = self.offer.functions.get(call.name)
        typed = _ask(f"result of {call.name}> " if function is None else f"run {call.name}? y, or type the result> ")
        if not typed:
            return None
        if function is not None and typed.lower() in YES:
            result = run(function, call.arguments)
            print(f"result> {printable(result)}")
            return result
        return canonical_result(_pasted(typed))


def _pasted(typed: str) -> str:
    """What was typed with the lines behind it that belong to the same JSON, up to an empty one."""
    text = typed
    while text.startswith(("{", "[")) and not _is_json(text) and (more := _ask("… ")):
        text += "\n" + more
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def keep(messages: Sequence[Message], tools: Sequence[Tool], path: Path) -> None:
    """Appends a conversation, up to the assistant's last turn, to a JSON Lines file; nothing without such a turn."""
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
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
    except (EOFError, RuntimeError):  # RuntimeError: there is no standard input at all
        return ""
