"""The GGUF export in a real llama.cpp: the same tokens in, the same greedy tokens out."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from callama.contract.messages import Conversation
from callama.generate.engine import Generator
from callama.text.chat_template import chat_template
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer
from callama.weights.convert import convert
from callama.weights.native import build_model, read_native
from tests.fetch import embedded_model_dir, node_llama_cpp_dir
from tests.tiny import conversation

SCRIPT = Path(__file__).with_name("llama_cpp.mjs")
QUESTIONS = ("Why is the sky blue?", "Name three rivers.", "What is 7 times 8?", "Say hello in French.",
             "Who wrote Hamlet?", "Give me a recipe for pancakes.")  # fmt: skip
TOKENS = 12


@pytest.mark.peer
def test_ten_prompts_go_on_in_llama_cpp_as_they_do_here(tmp_path: Path) -> None:
    modules = node_llama_cpp_dir()
    native = embedded_model_dir()
    convert(native, tmp_path / "model.gguf", "gguf")
    tokenizer = load_tokenizer(native)
    renderer = Renderer(tokenizer)
    talks = [Conversation.from_dict({"messages": [{"role": "user", "content": q}]}) for q in QUESTIONS]
    talks += [Conversation((conversation(i).messages[0],), conversation(i).tools) for i in range(4)]
    prompts = [renderer.prompt(talk) for talk in talks]
    texts = ["Hello  world,\n\n it's 2024!", "fn(x) { return '½'; }", "北京 😀 <|im_end|>"]
    # node finds packages beside the script that asks for them.
    shutil.copy(SCRIPT, script := modules.parent / SCRIPT.name)
    asked = json.dumps({"prompts": prompts, "texts": texts, "tokens": TOKENS})
    done = subprocess.run(
        ["node", str(script), str(tmp_path / "model.gguf")], input=asked, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])

    model = build_model(read_native(native), dtype=torch.float32).eval()
    ours = Generator(model, frozenset(), 4, 1024).generate(prompts, TOKENS)
    assert [found.ids for found in ours] == theirs["continuations"]
    assert theirs["ids"] == [tokenizer.encode(text) for text in texts]
    assert theirs["template"] == len(chat_template(tokenizer, marks=False))
