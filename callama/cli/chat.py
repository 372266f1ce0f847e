"""``callama chat``: talk to a model that may call functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from callama.common.errors import CallamaError
from callama.common.files import read_json
from callama.contract.grammar import Choice
from callama.contract.jsontext import canonical_result, dumps
from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.contract.tool_uses import parse_answer
from callama.generate.chat import ChatModel
from callama.generate.sampling import Sampling

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


def chat(
    model: Annotated[Path, typer.Argument(help="Native checkpoint.")],
    tools: Annotated[
        Path | None, typer.Option("--tools", help="JSON list of OpenAI tools; default: a weather tool.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="LoRA folder on top of the model, applied without merging.")
    ] = None,
    constrained: Annotated[
        bool, typer.Option("--constrained", help="Allow only text or calls that fit the offered tools.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0, max=1)] = 0.9,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes CUDA where there is one.")
    ] = "auto",
) -> None:
    """Talk to a model; when it calls a function, type the result (an empty line ends the chat).

    Example: callama chat checkpoints/demo-merged --tools my_tools.json
    """
    offered = DEFAULT_TOOLS if tools is None else _read_tools(tools)
    chat_model = ChatModel(model, device=device, slots=1, adapter=adapter)
    choice = Choice() if constrained else None
    print(f"Functions: {', '.join(t.name for t in offered)}. An empty line ends the chat.")
    messages = [Message("system", system)] if system else []
    sampling = Sampling(temperature, top_p)
    while text := _ask("you> "):
        before = len(messages)
        messages.append(Message("user", text))
        while True:
            conversation = Conversation(tuple(messages), offered)
            answer = parse_answer(chat_model.answer([conversation], max_new_tokens, sampling, choice=choice)[0])
            serial = sum(len(m.tool_calls) for m in messages)
            calls = tuple(ToolCall(c.name, c.arguments, f"call_{serial + i}") for i, c in enumerate(answer.calls))
            if answer.text:
                print(f"model> {answer.text}")
            if answer.kind == "malformed":
                print(f"(a broken call: {answer.reason}; your last message is taken back)")
                del messages[before:]
                break
            messages.append(Message("assistant", answer.text or (None if calls else " "), calls))
            if not calls:
                break
            for call in calls:
                print(f"call> {call.name}({dumps(call.arguments)})")
                result = _ask(f"result of {call.name}> ")
                if not result:
                    return
                messages.append(Message("tool", canonical_result(result), (), call.id))


def _read_tools(path: Path) -> tuple[Tool, ...]:
    raw = read_json(path, "a JSON list of OpenAI tools")
    if not isinstance(raw, list):
        raise CallamaError(f"{path} must hold a JSON list of tools")
    try:
        return Conversation.from_dict({"tools": raw, "messages": [{"role": "user", "content": "?"}]}).tools
    except CallamaError as error:
        raise CallamaError(f"{path}: {error}") from None


def _ask(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return ""
