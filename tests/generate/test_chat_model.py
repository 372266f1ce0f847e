"""A checkpoint that answers conversations, with the very prompt that training saw."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from callama.common.errors import CallamaError, UsageError
from callama.contract.messages import Conversation, Message
from callama.data.build import build
from callama.data.dataset import Dataset
from callama.generate.chat import ChatModel
from callama.generate.engine import Generator
from tests import tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_all(tmp_path_factory.mktemp("world"), count=8)


def question(index: int) -> Conversation:
    whole = tiny.conversation(index)
    return Conversation(whole.messages[:1], whole.tools)


def test_answers_come_in_the_order_of_the_questions(world: Path) -> None:
    model = ChatModel(world / "model", device="cpu", slots=3)
    questions = [question(i) for i in range(7)]
    prompts = [model.renderer.prompt(q) for q in questions]
    made = Generator(model.model, model.renderer.stop_ids, 7).generate(prompts, 12)
    assert model.answer(questions, 12) == [model.renderer.tokenizer.decode(g.ids) for g in made]


def test_generation_stops_at_every_stop_token_of_the_family(world: Path) -> None:
    model = ChatModel(world / "model", device="cpu")
    specials = model.renderer.tokenizer.special_tokens
    assert model.renderer.stop_ids == {specials["<|im_end|>"], specials["<|endoftext|>"]}


def test_trap_09_the_prompt_is_what_training_saw_before_the_answer(world: Path, tmp_path: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", map(tiny.conversation, range(8)))
    build([source], world / "model", tmp_path / "built", val_ratio=0)
    data = Dataset(tmp_path / "built" / "train.arrow")
    model = ChatModel(world / "model", device="cpu")
    for index in range(8):
        example = data[index]
        first = int(example.supervised.argmax())
        assert model.renderer.prompt(question(index)) == example.input_ids[:first].tolist()


def test_a_named_tokenizer_is_used(world: Path, tmp_path: Path) -> None:
    other = tiny.write_tokenizer(tmp_path / "tokenizer.json", vocab_size=300).file
    assert (
        ChatModel(world / "model", world / "tokenizer.json", "cpu").renderer.tokenizer.file == world / "tokenizer.json"
    )
    with pytest.raises(CallamaError, match=r"has 300 tokens, the model in .* 400: this tokenizer does not belong"):
        ChatModel(world / "model", other, "cpu")


def test_wrong_use(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none is not a folder"):
        ChatModel(tmp_path / "none")
    with pytest.raises(UsageError, match=r"max_seq_len 1025 is longer than the context of .*, 1024 tokens"):
        ChatModel(world / "model", max_seq_len=1025)
    model = ChatModel(world / "model", device="cpu", max_seq_len=20)
    with pytest.raises(CallamaError, match="room for an answer within 20"):
        model.answer([Conversation((Message("user", "word " * 50),))], 5)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="finds no CUDA device"):
            ChatModel(world / "model", device="cuda")
