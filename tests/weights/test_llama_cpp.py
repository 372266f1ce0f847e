"""The GGUF export in a real llama.cpp: the same tokens in, the same greedy tokens out, the same prompts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from callama.contract.messages import Conversation
from callama.generate.engine import Generator
from callama.synth.engine import synthesise
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer
from callama.weights.convert import convert
from callama.weights.native import build_model, read_native
from tests.fetch import embedded_gguf_path, embedded_model_dir, node_llama_cpp_dir
from tests.text.test_render import CASES
from tests.text.test_render import conversation as case
from tests.tiny import conversation

pytestmark = pytest.mark.peer

SCRIPT = Path(__file__).with_name("llama_cpp.mjs")
QUESTIONS = ("Why is the sky blue?", "Name three rivers.", "What is 7 times 8?", "Say hello in French.",
             "Who wrote Hamlet?", "Give me a recipe for pancakes.")  # fmt: skip
TOKENS = 12
# A description with every kind of line break, types inside types, a reference to itself, what TypeScript cannot say.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "día": {"const": 1}}}},
    "properties": {
        "list": {"type": "array", "items": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]}},
        "node": {"$ref": "#/$defs/node", "description": "a\nb\r\nc\u2028d\u2029e\x85f"},
        "two words": {"enum": ["a\"b", "é\u2028", 3, None], "default": 3},
        "share": {"type": "number", "minimum": -0.0625, "maximum": 322805.1, "enum": [1234567.25, 0.1, {"a": [0.7]}]},
        "pair": {"prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": False},
    },
    "required": ["list", "gone", "gone"],
    "additionalProperties": {"type": "number", "minimum": 0.5},
}  # fmt: skip
RESULTS = (
    '{"a" : [1,-0, {"b":null}],"c":""}', '{"a":1,"a":2}', "[1,2", "[sic] he said", "{}", '["\\n\\/\\\\ é"]', "[01]",
           '["\t"]', "[true,false,null]", "21 °C", '["a\\"b", "\\\\"]', "[" * 250 + "]" * 250)  # fmt: skip


def in_llama_cpp(model: Path, **asked: Any) -> dict[str, Any]:
    modules = node_llama_cpp_dir()
    # node finds packages beside the script that asks for them.
    shutil.copy(SCRIPT, script := modules.parent / SCRIPT.name)
    given = json.dumps({"prompts": [], "texts": [], "talks": [], "tokens": TOKENS, **asked})
    done = subprocess.run(["node", str(script), str(model)], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def questions() -> list[Conversation]:
    talks = [Conversation.from_dict({"messages": [{"role": "user", "content": q}]}) for q in QUESTIONS]
    return talks + [Conversation((conversation(i).messages[0],), conversation(i).tools) for i in range(4)]


def test_ten_prompts_go_on_in_llama_cpp_as_they_do_here(tmp_path: Path) -> None:
    native = embedded_model_dir()
    convert(native, tmp_path / "model.gguf", "gguf")
    tokenizer = load_tokenizer(native)
    prompts = [Renderer(tokenizer).prompt(talk) for talk in questions()]
    texts = ["Hello  world,\n\n it's 2024!", "fn(x) { return '½'; }", "北京 😀 <|im_end|>"]
    theirs = in_llama_cpp(tmp_path / "model.gguf", prompts=prompts, texts=texts)
    model = build_model(read_native(native), dtype=torch.float32).eval()
    ours = Generator(model, frozenset(), 4, 1024).generate(prompts, TOKENS)
    assert [found.ids for found in ours] == theirs["continuations"]
    assert theirs["ids"] == [tokenizer.encode(text) for text in texts]


def test_trap_09_llama_cpps_own_template_engine_and_tokenizer_make_our_prompts(tmp_path: Path) -> None:
    """What llama-server sends to the model when it renders the template inside the file."""
    native = embedded_model_dir()
    convert(native, tmp_path / "model.gguf", "gguf", dtype="fp16")
    talks = [*synthesise(60, 1, side="train"), *synthesise(20, 1, side="held_out")]
    talks += [case(messages, with_tools) for messages, _, with_tools in CASES.values()]
    tool = {"name": "odd", "description": "x\r\ny", "parameters": SCHEMA}
    talks.append(Conversation.from_dict({"tools": [tool], "messages": [{"role": "user", "content": "Hi"}]}))
    raw = [talk.to_dict() for talk in talks]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}
    for result in RESULTS:
        # As a tool said it: respelling is up to the template.
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": result},
        ]  # fmt: skip
        raw.append({"tools": [], "messages": messages})
        talks.append(Conversation.from_dict({"messages": messages}))
    theirs = in_llama_cpp(tmp_path / "model.gguf", talks=raw)["talks"]
    renderer = Renderer(load_tokenizer(native))
    assert len(theirs) == len(talks)
    for talk, ids in zip(talks, theirs, strict=True):
        assert ids == renderer.prompt(talk), renderer.tokenizer.decode(ids)


def test_a_quantised_file_goes_on_in_llama_cpp_as_its_conversion_does_here() -> None:
    """llama.cpp runs Q4_1 with activations rounded to 8 bits, so a close call may fall the other way."""
    native = embedded_model_dir()
    prompts = [Renderer(load_tokenizer(native)).prompt(talk) for talk in questions()]
    theirs = in_llama_cpp(embedded_gguf_path(), prompts=prompts)["continuations"]
    model = build_model(read_native(native), dtype=torch.float32).eval()
    ours = [found.ids for found in Generator(model, frozenset(), 4, 1024).generate(prompts, TOKENS)]
    same = [next((i for i, (a, b) in enumerate(zip(x, y, strict=True)) if a != b), TOKENS)
            for x, y in zip(ours, theirs, strict=True)]  # fmt: skip
    assert sum(same) >= 0.75 * TOKENS * len(prompts)
