"""The transformer is Llama's: the same logits as ``transformers`` from the same weights."""

import dataclasses

import pytest
import torch
from torch import Tensor

from callama.model.attend import Documents
from callama.model.params import ModelParams
from callama.model.rope import rope_frequencies
from callama.model.transformer import Dropout, Transformer
from tests.model.tiny import FAMILIES, LLAMA_3, LLAMA_3_1, LLAMA_3_2, hf_model, logits, tiny, tokens, twin


class At(Documents):
    """One document whose tokens stand at positions of the test's choice."""

    def __init__(self, positions: list[int]) -> None:
        super().__init__([[len(positions)]])
        self.positions = torch.tensor([positions])


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_are_those_of_transformers(family: str) -> None:
    params, tied = FAMILIES[family]
    theirs = hf_model(params, tied=tied)
    ours, ids = twin(theirs, params, tied=tied), tokens(48)
    expected = theirs(ids[None]).logits[0]
    assert expected.std() > 0.5, "a reference near zero proves nothing"
    assert (logits(ours, ids) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("family", ["Llama 3.1", "Llama 3.2"])
@torch.no_grad()
def test_logits_far_beyond_the_original_context_are_those_of_transformers(family: str) -> None:
    params, tied = FAMILIES[family]
    theirs = hf_model(params, tied=tied)
    ours, ids = twin(theirs, params, tied=tied), tokens(24)
    # Distances matter to RoPE, not places: some tokens are thousands of positions apart.
    positions = [*range(8), *range(8190, 8198), *range(40_000, 40_008)]
    near = logits(ours, ids)
    far = ours.logits(ours(ids[None], At(positions)))[0]
    ones = torch.ones(1, len(ids), dtype=torch.long)
    expected = theirs(ids[None], position_ids=torch.tensor([positions]), attention_mask=ones).logits[0]
    assert (far - expected).abs().max() <= 1e-4
    assert (far - near).abs().max() > 0.1, "positions must matter here"


@pytest.mark.parametrize("params", [LLAMA_3, LLAMA_3_1, LLAMA_3_2], ids=list(FAMILIES))
@pytest.mark.parametrize("head_dim", [64, 128])
def test_rope_frequencies_are_those_of_transformers(params: ModelParams, head_dim: int) -> None:
    params = dataclasses.replace(params, dim=params.n_heads * head_dim, n_layers=1)
    theirs = hf_model(params, tied=True).model.rotary_emb.inv_freq
    torch.testing.assert_close(rope_frequencies(params), theirs, rtol=1e-6, atol=0)


def test_scaled_rope_stretches_long_waves_and_keeps_short_ones() -> None:
    plain, scaled = rope_frequencies(LLAMA_3), rope_frequencies(LLAMA_3_1)
    wavelengths = 2 * torch.pi / plain
    assert torch.equal(scaled[wavelengths < 2048], plain[wavelengths < 2048])
    torch.testing.assert_close(scaled[wavelengths > 8192], plain[wavelengths > 8192] / 8)
    assert (wavelengths < 2048).any() and (wavelengths > 8192).any()


def test_rope_angles_stay_fp32_in_a_bf16_model() -> None:
    params = dataclasses.replace(LLAMA_3_1, n_layers=1)
    with torch.device("meta"):
        built_elsewhere = Transformer(params, tied=True)
    for model in (Transformer(params, tied=True).to(torch.bfloat16), built_elsewhere):
        assert torch.equal(model._frequencies, rope_frequencies(params))
    assert not any("freq" in name for name in built_elsewhere.state_dict())


@torch.no_grad()
def test_the_embedding_is_the_output_projection_only_when_tied() -> None:
    tied, untied = tiny(LLAMA_3_2, tied=True), tiny(LLAMA_3)
    assert tied.output is None and tied.output_weight is tied.tok_embeddings.weight
    assert "output.weight" not in tied.state_dict() and "output.weight" in untied.state_dict()
    hidden = torch.randn(3, LLAMA_3.dim)
    assert torch.equal(tied.logits(hidden), hidden @ tied.tok_embeddings.weight.T)
    assert not torch.allclose(untied.logits(hidden), hidden @ untied.tok_embeddings.weight.T)


@torch.no_grad()
def test_a_token_sees_nothing_after_it() -> None:
    model, ids = tiny(), tokens(16)
    changed = ids.clone()
    changed[10] = (ids[10] + 1) % LLAMA_3.vocab_size
    before, after = logits(model, ids), logits(model, changed)
    assert torch.equal(before[:10], after[:10]) and not torch.allclose(before[10:], after[10:])


LENGTHS = (5, 1, 17, 9)


@torch.no_grad()
def test_trap_19_packed_documents_have_the_logits_that_each_has_alone() -> None:
    model, ids = tiny(LLAMA_3_1), tokens(sum(LENGTHS))
    packed = logits(model, ids, *LENGTHS)
    alone = torch.cat([logits(model, document) for document in ids.split(LENGTHS)])
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)
    assert Documents([[n] for n in LENGTHS]).positions.tolist() == [[i for n in LENGTHS for i in range(n)]]


def test_trap_19_gradients_of_packed_documents_are_the_sum_of_each_alone() -> None:
    model, ids = tiny(LLAMA_3_1), tokens(sum(LENGTHS))
    weights = torch.randn(len(ids), LLAMA_3.vocab_size, generator=torch.Generator().manual_seed(5))

    def gradients(*losses: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        for loss in losses:
            loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    packed = gradients((logits(model, ids, *LENGTHS) * weights).sum())
    parts = zip(ids.split(LENGTHS), weights.split(LENGTHS), strict=True)
    alone = gradients(*[(logits(model, document) * w).sum() for document, w in parts])
    assert packed.keys() == alone.keys() == dict(model.named_parameters()).keys()
    for name, gradient in packed.items():
        assert (gradient - alone[name]).norm() <= 1e-5 * alone[name].norm(), name


def test_trap_19_nothing_flows_from_one_document_into_another() -> None:
    model, ids = tiny(), tokens(12)
    embedded = model.tok_embeddings(ids[None]).detach().requires_grad_()
    model.tok_embeddings.forward = lambda _: embedded  # type: ignore[method-assign]
    logits(model, ids, 7, 5)[7:].sum().backward()
    assert embedded.grad is not None
    assert embedded.grad[0, :7].count_nonzero() == 0 and (embedded.grad[0, 7:].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("place", ["embed", "attention", "hidden"])
@torch.no_grad()
def test_trap_15_dropout_is_on_while_training_and_off_in_evaluation(place: str) -> None:
    model, plain, ids = tiny(dropout=Dropout(**{place: 0.5})), tiny(), tokens(16)
    expected = logits(plain, ids)
    assert torch.equal(logits(model.eval(), ids), expected)
    first, second = logits(model.train(), ids), logits(model, ids)
    assert not torch.allclose(first, expected) and not torch.allclose(first, second)
    assert torch.equal(logits(model.eval(), ids), expected)


@torch.no_grad()
def test_a_bf16_model_gives_fp32_logits_near_those_of_fp32() -> None:
    model, ids = tiny(), tokens(32)
    expected = logits(model, ids)
    found = logits(model.to(torch.bfloat16), ids)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.05 * expected.norm()
