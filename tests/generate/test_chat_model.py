"""A checkpoint that answers conversations, with the very prompt that training saw."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, sha256_file
from callama.contract.grammar import Choice
from callama.contract.messages import Conversation, Message
from callama.contract.tool_uses import parse_answer
from callama.data.build import build
from callama.data.dataset import Dataset
from callama.generate.chat import ChatModel
from callama.generate.engine import Generator
from callama.generate.sampling import Sampling
from callama.model.attend import Documents
from callama.model.lora import LoRAParams, add_lora, lora_modules
from callama.weights.adapter import adapter_of, save_adapter
from callama.weights.merge import merge_to_folder
from callama.weights.native import build_model, read_native
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


def add_adapter(world: Path, folder: Path, base_sha256: str) -> Path:
    """An adapter with effect for the world's model, and what it says it was trained on."""
    lora = LoRAParams(rank=4, scaling=1.5, layers=("wq", "wv", "w2"))
    model = add_lora(build_model(read_native(world / "model"), dtype=torch.float32), lora)
    torch.manual_seed(6)
    for _, module in lora_modules(model):
        torch.nn.init.normal_(module.lora_b, std=0.1)
    with atomic_folder(folder, {"base_sha256": base_sha256}) as out:
        save_adapter(out, adapter_of(model, lora), model.params, "base")
    return folder


@torch.inference_mode()
def test_an_adapter_beside_the_weights_is_the_merged_model(world: Path, tmp_path: Path) -> None:
    adapter = add_adapter(world, tmp_path / "adapter", sha256_file(world / "model" / "consolidated.pth"))
    merge_to_folder(world / "model", adapter, tmp_path / "merged", dtype="fp32", max_changed=1.0)
    base, beside = ChatModel(world / "model", device="cpu"), ChatModel(world / "model", device="cpu", adapter=adapter)
    merged = ChatModel(tmp_path / "merged", device="cpu")
    ids = torch.tensor([base.renderer.prompt(question(0))])

    def logits(model: ChatModel) -> torch.Tensor:
        return model.model.logits(model.model(ids, Documents([[ids.shape[1]]])))

    tolerance = 1e-4 if merged.model.norm.weight.dtype == torch.float32 else 0.1
    expected = logits(merged)
    assert (logits(beside) - expected).abs().max() <= tolerance * expected.abs().max()
    assert (logits(base) - expected).abs().max() > 0.2 * expected.abs().max()
    assert beside.answer([question(0)], 5) != []


def test_an_adapter_of_another_base_is_refused(world: Path, tmp_path: Path) -> None:
    adapter = add_adapter(world, tmp_path / "adapter", "0" * 64)
    with pytest.raises(CallamaError, match="was trained on weights 000000000000…"):
        ChatModel(world / "model", device="cpu", adapter=adapter)
    with pytest.raises(UsageError, match="is neither an adapter folder"):
        ChatModel(world / "model", device="cpu", adapter=tmp_path / "none")


def test_constrained_answers_are_text_or_valid_calls(world: Path) -> None:
    model = ChatModel(world / "model", device="cpu")
    questions = [question(i) for i in range(4)]
    answers = model.answer(questions, 400, Sampling(1.0, seed=2), choice=Choice(required=True, parallel=False))
    for conversation, answer in zip(questions, map(parse_answer, answers), strict=True):
        (call,) = answer.calls
        assert (call.name, set(call.arguments)) == (conversation.tools[0].name, {"city"})


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
