"""``callama chat``: talk to a model that may call functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from callama.cli.talk import read_offer, require_savable, talk
from callama.common.errors import advised_when_out_of_memory
from callama.generate.chat import ChatModel
from callama.generate.sampling import Sampling

_TOOLS = (
    "Functions to offer: an OpenAI list of tools, an MCP tools/list reply, an OpenAPI 3 document (JSON or YAML) or "
    "a Python module, which is imported; may be repeated. Default: a weather tool."
)


def chat(
    model: Annotated[Path, typer.Argument(help="Native checkpoint.")],
    tools: Annotated[list[Path] | None, typer.Option("--tools", help=_TOOLS)] = None,
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
    save: Annotated[
        Path | None, typer.Option("--save", help="Append the conversation to this JSON Lines file, as training data.")
    ] = None,
) -> None:
    """Talk to a model; when it calls a function, type the result, or let your Python function run (an empty line
    ends the chat).

    Example: callama chat checkpoints/demo-merged --tools my_tools.json

    Example: callama chat checkpoints/demo-merged --tools my_functions.py --constrained --save datasets/chats.jsonl
    """
    if save is not None:
        require_savable(save)
    offer = read_offer(tools or ())
    sampling = Sampling(temperature, top_p)
    with advised_when_out_of_memory(
        "offer fewer functions or begin a new chat, which makes the prompt shorter; or take a smaller model or, with "
        "--device cpu, main memory"
    ):
        chat_model = ChatModel(model, device=device, slots=1, adapter=adapter)
        talk(chat_model, offer, system=system, sampling=sampling, max_new_tokens=max_new_tokens,
             constrained=constrained, save=save)  # fmt: skip
