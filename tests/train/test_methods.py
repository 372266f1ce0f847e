"""Methods of training beside plain LoRA: what each leaves behind is used by every other part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from callama.cli.evaluate import evaluate
from callama.common.errors import UsageError
from callama.common.files import read_manifest
from callama.contract.messages import Conversation
from callama.generate.chat import ChatModel
from callama.model.lora import LoRAParams, add_lora
from callama.train.loop import train
from callama.train.setup import prepare
from callama.weights.adapter import find_adapter, is_adapter, load_adapter, read_adapter
from callama.weights.convert import convert
from callama.weights.merge import merge_to_folder
from callama.weights.native import build_model, build_packed, read_native
from tests import tiny
from tests.model.tiny import logits
from tests.train.conftest import Configure
from tests.train.reference import assert_bit_equal, mean_loss
from tests.train.test_resume import DROPPING, cut_back

DORA: dict[str, Any] = {"lora_config__use_dora": True}
RSLORA: dict[str, Any] = {"lora_config__use_rslora": True}
QLORA: dict[str, Any] = {"method": "qlora"}
FULL: dict[str, Any] = {"method": "full", "scheduler__max_lr": 1e-3}
KINDS = {"DoRA": DORA, "rsLoRA": RSLORA, "QLoRA": QLORA, "QDoRA": QLORA | DORA, "full": FULL}
IN_BF16 = {"full in bf16": FULL | {"dtype": "bf16"}, "QLoRA in bf16": QLORA | {"dtype": "bf16"}}


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_of_what_is_saved(world: Path, configure: Configure, job: Path, kind: str) -> None:
    data, model = world / "built" / "train.arrow", world / "model"
    result = train(configure(train__num_epochs=3, **KINDS[kind]))
    before = mean_loss(model, data)
    after = mean_loss(job, data) if kind == "full" else mean_loss(model, data, find_adapter(job))
    assert after < before - 0.3
    assert result["train_loss"] == pytest.approx(after, rel=0.2)


@pytest.mark.parametrize("kind", KINDS | IN_BF16)
@pytest.mark.parametrize("step", [1, 4])
def test_trap_22_resume_is_exact_with_every_method(configure: Configure, tmp_path: Path, kind: str, step: int) -> None:
    changes = {**DROPPING, **(KINDS | IN_BF16)[kind]}
    whole, cut = configure("whole", **changes), configure("cut", **changes, checkpoint__save_interval=1)
    expected = train(whole)
    train(cut)
    cut_back(cut.checkpoint.folder, step)
    result = train(cut, resume=True)
    assert result["train_loss"] == expected["train_loss"]
    folders = [find_adapter(tmp_path / name / "job") for name in ("cut", "whole")]
    if changes.get("method") != "full":
        assert_bit_equal(*folders)
        return
    one, other = (read_native(folder).state for folder in folders)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_full_fine_tuning_trains_all_weights_and_leaves_a_model(world: Path, configure: Configure, job: Path) -> None:
    train(configure(**FULL))
    before, after = read_native(world / "model"), read_native(job)
    assert before.params == after.params
    assert not any(torch.equal(before.state[name], tensor) for name, tensor in after.state.items())
    assert read_manifest(find_adapter(job))["kind"] == "native checkpoint" and not is_adapter(job)
    assert not (find_adapter(job) / "lora.json").exists()
    question = Conversation.from_dict({"messages": [{"role": "user", "content": "What is the weather in Oslo?"}]})
    for folder in (job, find_adapter(job)):
        assert len(ChatModel(folder, device="cpu", slots=1).answer([question], 4)) == 1
    convert(job, job.parent / "hf", "hf")
    theirs, ids = LlamaForCausalLM.from_pretrained(job.parent / "hf").eval(), torch.arange(12)
    ours = build_model(after, dtype=torch.float32)
    torch.testing.assert_close(logits(ours, ids), theirs(ids[None]).logits[0], rtol=1e-3, atol=1e-3)


def test_a_model_of_full_fine_tuning_serves_wherever_a_model_does(
    world: Path, configure: Configure, job: Path, tmp_path: Path
) -> None:
    """The job's folder, as it is: evaluated, converted there and back, trained on, merged with, and no adapter."""
    train(configure(**FULL))
    evaluate(
        [str(world / "conversations.jsonl")], model=str(job), base=world / "model", limit=2, max_new_tokens=8,
        out=tmp_path / "report.json",
    )  # fmt: skip
    models = json.loads((tmp_path / "report.json").read_text())["models"]
    assert models["tuned"] != models["base"]
    own = read_native(job).state
    convert(job, tmp_path / "meta", "meta")
    convert(job, tmp_path / "model.gguf", "gguf")
    for source in ("meta", "model.gguf"):
        convert(tmp_path / source, tmp_path / f"{source}-back", "native")
        back = read_native(tmp_path / f"{source}-back").state
        assert own.keys() == back.keys() and all(torch.equal(own[name], back[name]) for name in own)
    train(configure("on_top", model_ckpt_file=str(job), train__num_epochs=2))
    adapter, data = find_adapter(tmp_path / "on_top" / "job"), world / "built" / "train.arrow"
    merge_to_folder(job, adapter, tmp_path / "merged", max_changed=1)
    assert mean_loss(tmp_path / "merged", data) == pytest.approx(mean_loss(job, data, adapter), rel=1e-4)
    with pytest.raises(UsageError, match="is a whole model, as full fine-tuning leaves it"):
        merge_to_folder(world / "model", job, tmp_path / "none")


def test_updates_too_small_for_bf16_are_not_lost(configure: Configure, job: Path) -> None:
    train(configure(**FULL, dtype="bf16"))
    copies = torch.load(find_adapter(job) / "trainer.pt", weights_only=True)["optimizer"]["copies"]
    rounded = list(read_native(job).state.values())
    assert len(copies) == len(rounded) and all(c.dtype == torch.float32 for c in copies)
    assert all(any(torch.equal(copy.bfloat16(), tensor) for copy in copies) for tensor in rounded)
    assert not any(torch.equal(copy, copy.bfloat16().float()) for copy in copies)


@pytest.mark.parametrize("kind", ["DoRA", "rsLoRA", "QDoRA"])
def test_peft_computes_what_training_computed(world: Path, configure: Configure, job: Path, kind: str) -> None:
    train(configure(**KINDS[kind]))
    convert(world / "model", job.parent / "base", "hf")
    convert(job, job.parent / "peft", "peft")
    config = json.loads((job.parent / "peft" / "adapter_config.json").read_text())
    assert (config["use_dora"], config["use_rslora"]) == ("DoRA" in kind, kind == "rsLoRA")
    theirs = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(job.parent / "base"), job.parent / "peft")
    checkpoint = read_native(world / "model")
    ours = build_model(checkpoint, dtype=torch.float32)
    ids = torch.arange(20)
    plain = logits(ours, ids).detach()
    adapter = read_adapter(find_adapter(job), checkpoint.params)
    load_adapter(add_lora(ours, adapter.lora), adapter)
    expected = logits(ours.eval(), ids)
    torch.testing.assert_close(theirs.eval()(ids[None]).logits[0], expected, rtol=1e-3, atol=1e-3)
    assert (expected - plain).abs().max() > 0.01
    merge_to_folder(world / "model", job, job.parent / "merged", max_changed=1)
    merged = build_model(read_native(job.parent / "merged"), dtype=torch.float32)
    torch.testing.assert_close(logits(merged, ids), expected, rtol=1e-3, atol=1e-3)


def test_generation_applies_a_dora_adapter(
    world: Path, configure: Configure, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In bf16 the two orders of arithmetic may differ in a token of a tiny model.
    monkeypatch.setattr("callama.generate.chat.choose_dtype", lambda name, place: torch.float32)
    train(configure(train__num_epochs=4, **DORA))
    merge_to_folder(world / "model", job, job.parent / "merged", max_changed=1)
    beside = ChatModel(world / "model", device="cpu", slots=2, adapter=job)
    merged = ChatModel(job.parent / "merged", device="cpu", slots=2)
    asked = [tiny.conversation(i).to_dict() for i in (1, 2)]
    questions = [Conversation.from_dict({**c, "messages": c["messages"][:1]}) for c in asked]
    assert beside.answer(questions, 16) == merged.answer(questions, 16)


def test_the_base_of_qlora_is_rounded_to_four_bits(world: Path, configure: Configure) -> None:
    run = prepare(configure(**QLORA))
    assert run.facts["base_trained_on_as"] == "nf4"
    checkpoint = read_native(world / "model")
    packed = build_packed(checkpoint, dtype=torch.float32)
    assert "layers.0.attention.wq.weight" not in packed.state_dict()
    for name, tensor in checkpoint.state.items():
        if name not in packed.state_dict():
            rounded = packed.get_submodule(name.removesuffix(".weight")).weight
            assert 0.05 < (rounded - tensor).abs().mean() / tensor.abs().mean() < 0.12, name


def test_the_originals_settings_name_the_scale_that_multiplies(configure: Configure, job: Path) -> None:
    train(configure(**RSLORA))
    written = json.loads((find_adapter(job) / "lora.json").read_text())
    assert written["lora_scaling"] == 2.0 and "use_rslora" not in written  # rank 4, alpha 4
    assert read_adapter(find_adapter(job), tiny.params(400)).lora == LoRAParams(4, 2.0, rslora=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (FULL | DORA, "method is full, which has no adapter"),
        (FULL | RSLORA, "method is full, which has no adapter"),
        (QLORA | {"zero_optimization": {"stage": 3}}, "stage is 3, which cannot part weights of 4 bits; use stage 2"),
        (DORA | {"zero_optimization": {"stage": 3}}, "use_dora is set and .*stage is 3, .* use stage 2"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_loaded(
    configure: Configure, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(configure(model_ckpt_file="nowhere", **changes))
