"""LoRA and DoRA around a frozen layer: what they add, what they train, and what they must leave alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from callama.model.lora import ALL_LINEAR, QV_ONLY, LoRAParams, add_lora, lora_modules
from callama.model.transformer import Transformer
from callama.weights.adapter import adapter_of, save_adapter
from callama.weights.lazy import unpermute_rows
from tests.model.tiny import LLAMA_3, hf_model, hf_name, logits, tiny, tokens, twin

LORA = LoRAParams(rank=4, scaling=1.5)
KINDS = {"LoRA": LORA, "rsLoRA": replace(LORA, rslora=True), "DoRA": replace(LORA, dora=True)}


def with_lora(model: Transformer, lora: LoRAParams = LORA) -> Transformer:
    """Wrapped, with factors that are not zero and magnitudes that are not the base's."""
    add_lora(model, lora)
    torch.manual_seed(9)
    for _, module in lora_modules(model):
        torch.nn.init.normal_(module.lora_b, std=0.1)
        if module.magnitude is not None:
            module.magnitude.data *= 1 + 0.2 * torch.rand_like(module.magnitude)
    return model


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_fresh_adapter_changes_nothing(kind: str) -> None:
    plain, ids = tiny(), tokens(16)
    wrapped = add_lora(tiny(), KINDS[kind])
    assert all(
        module.lora_b.count_nonzero() == 0 != module.lora_a.count_nonzero() for _, module in lora_modules(wrapped)
    )
    assert torch.equal(logits(wrapped, ids), logits(plain, ids))
    assert not torch.allclose(logits(with_lora(tiny()), ids), logits(plain, ids))


@pytest.mark.parametrize(("layers", "count"), [(ALL_LINEAR, 7), (QV_ONLY, 2)])
def test_only_the_factors_of_the_chosen_layers_are_trained(layers: tuple[str, ...], count: int) -> None:
    model = add_lora(tiny(), LoRAParams(4, 1.0, layers=layers))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    wrapped = dict(lora_modules(model))
    assert len(wrapped) == count * LLAMA_3.n_layers and {name.split(".")[-1] for name in wrapped} == set(layers)
    assert trained == {f"{name}.lora_{factor}" for name in wrapped for factor in "ab"}
    logits(model, tokens(8)).sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained


@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_gradients_are_those_of_peft(tmp_path: Path, kind: str) -> None:
    lora, base = KINDS[kind], hf_model(LLAMA_3, tied=False)
    ours, ids = with_lora(twin(base, LLAMA_3, tied=False), lora), tokens(24)
    plain = base(ids[None]).logits[0].detach()
    save_adapter(tmp_path, adapter_of(ours, lora), LLAMA_3, "base")
    theirs = PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    weights = torch.randn(len(ids), LLAMA_3.vocab_size)

    found, expected = logits(ours, ids), theirs(ids[None]).logits[0]
    assert (found - expected).abs().max() <= 1e-4 and (expected - plain).abs().max() > 0.1
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    heads = {"wq": LLAMA_3.n_heads, "wk": LLAMA_3.kv_heads}
    for name, module in lora_modules(ours):
        key = f"base_model.model.{hf_name(f'{name}.weight').removesuffix('.weight')}"
        count = heads.get(name.split(".")[-1])
        pairs = [(module.lora_a.grad, gradients.pop(f"{key}.lora_A.default.weight"))]
        b = gradients.pop(f"{key}.lora_B.default.weight")
        pairs.append((module.lora_b.grad, unpermute_rows(b, count) if count else b))
        if module.magnitude is not None:
            m = gradients.pop(f"{key}.lora_magnitude_vector.default.weight")
            pairs.append((module.magnitude.grad, unpermute_rows(m[:, None], count)[:, 0] if count else m))
        for ours_grad, theirs_grad in pairs:
            torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-3, atol=1e-3 * float(theirs_grad.abs().max()))
    assert not gradients, "peft trains factors that we do not"


def test_trap_21_adapters_and_their_gradients_stay_fp32_on_a_bf16_base() -> None:
    model = add_lora(tiny().to(torch.bfloat16), LORA)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):
        logits(model, tokens(16)).pow(2).mean().backward()
        for name, module in lora_modules(model):
            for factor in (module.lora_a, module.lora_b):
                assert factor.dtype == factor.grad.dtype == torch.float32, name
            assert module.base.weight.dtype == torch.bfloat16
        optimizer.step()
        optimizer.zero_grad()
    states = [tensor for state in optimizer.state.values() for tensor in state.values() if tensor.dim()]
    assert states and {tensor.dtype for tensor in states} == {torch.float32}
    hidden = torch.randn(1, 3, LLAMA_3.dim, dtype=torch.bfloat16)
    assert next(lora_modules(model))[1](hidden).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trap_17_train_and_eval_never_touch_a_weight(dtype: torch.dtype) -> None:
    model = with_lora(tiny().to(dtype))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for mode in (True, False) * 5:
        model.train(mode)
        logits(model, tokens(8))
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


@torch.no_grad()
def test_trap_16_evaluation_mode_still_applies_the_adapter() -> None:
    model, ids = with_lora(tiny()), tokens(16)
    assert torch.equal(logits(model.train(), ids), logits(model.eval(), ids))
    assert not torch.allclose(logits(model.eval(), ids), logits(tiny(), ids))


@torch.no_grad()
def test_trap_15_dropout_of_lora_is_on_while_training_and_off_in_evaluation() -> None:
    dropping, sure, ids = with_lora(tiny(), LoRAParams(4, 1.5, dropout=0.5)), with_lora(tiny()), tokens(16)
    expected = logits(sure, ids)
    assert torch.equal(logits(dropping.eval(), ids), expected)
    first, second = logits(dropping.train(), ids), logits(dropping, ids)
    assert not torch.allclose(first, expected) and not torch.allclose(first, second)


@torch.no_grad()
def test_dropout_of_lora_leaves_the_base_alone() -> None:
    plain, ids = tiny(), tokens(16)
    fresh = add_lora(tiny(), LoRAParams(4, 1.5, dropout=0.9)).train()
    assert torch.equal(logits(fresh, ids), logits(plain, ids))


@torch.no_grad()
def test_scaling_is_alpha_over_rank() -> None:
    model = with_lora(tiny())
    module = dict(lora_modules(model))["layers.0.attention.wq"]
    x = torch.randn(2, 5, LLAMA_3.dim)
    expected = module.base(x) + 1.5 * (x @ module.lora_a.T @ module.lora_b.T)
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_dora_brings_rows_to_the_trained_lengths() -> None:
    model = with_lora(tiny(), KINDS["DoRA"])
    module = dict(lora_modules(model))["layers.0.feed_forward.w2"]
    x = torch.randn(2, 5, module.base.in_features)
    adapted = module.base.weight + 1.5 * module.lora_b @ module.lora_a
    lengths = adapted.norm(dim=1)
    torch.testing.assert_close(module.lengths(), lengths, rtol=1e-5, atol=0)
    torch.testing.assert_close(module(x), x @ (adapted * (module.magnitude / lengths)[:, None]).T, rtol=1e-4, atol=1e-4)


def test_lengths_of_dora_follow_each_update_of_the_optimizer() -> None:
    model = with_lora(tiny(), KINDS["DoRA"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, fused=True)
    module = next(lora_modules(model))[1]
    for _ in range(2):
        logits(model.train(), tokens(8)).pow(2).mean().backward()
        optimizer.step()
        expected = (module.base.weight + 1.5 * module.lora_b @ module.lora_a).norm(dim=1).detach()
        for training in (True, False, False):
            torch.testing.assert_close(module.train(training).lengths(), expected, rtol=1e-5, atol=0)
