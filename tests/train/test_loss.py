"""The loss: plain cross-entropy over the supervised positions, at a fraction of the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from callama.contract.spans import Kind
from callama.data.dataset import Dataset
from callama.data.pack import MicroBatch, collate
from callama.model.lora import LoRAParams, add_lora, lora_modules
from callama.model.transformer import Transformer
from callama.train import loss as loss_module
from callama.train.loss import projected_cross_entropy, supervised_loss
from callama.train.watch import Sums
from tests import tiny
from tests.train.memory import allocated_bytes
from tests.train.reference import document_loss


@pytest.fixture
def data(world: Path) -> Dataset:
    return Dataset(world / "built" / "train.arrow")


def whole_model(data: Dataset, *, tied: bool = False) -> Transformer:
    """Random weights, all of them trained."""
    vocab_size = max(int(data[i].input_ids.max()) for i in range(len(data))) + 1
    return tiny.random_model(vocab_size, tied=tied)


def lora_model(data: Dataset, *, tied: bool = False) -> Transformer:
    """Random weights and random adapters, so that both factors have gradients."""
    model = add_lora(whole_model(data, tied=tied), LoRAParams(4, 1.0))
    generator = torch.Generator().manual_seed(1)
    for _, module in lora_modules(model):
        torch.nn.init.normal_(module.lora_b, std=0.1, generator=generator)
    return model


def gradients(model: Transformer) -> dict[str, Tensor]:
    out = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return out


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("chunk", [7, 512])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("make", [lora_model, whole_model])
def test_value_and_gradients_equal_the_full_cross_entropy(
    data: Dataset,
    tied: bool,
    chunk: int,
    recompute: bool,
    make: Callable[..., Transformer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_POSITIONS", chunk)
    alike = np.argsort(data.opening_hashes, kind="stable").tolist()
    chosen = [*alike[:5], alike[-1]]
    model, batch = make(data, tied=tied), collate(data, chosen)
    assert {len(pieces) > 1 for pieces in batch.documents} == {True, False}, "with shared openings and without"
    reference = torch.stack([document_loss(model, data[i])[0] for i in chosen]).sum()
    reference.backward()  # type: ignore[no-untyped-call]
    expected = gradients(model)
    model.recompute = recompute
    result = supervised_loss(model, batch)
    result.total.backward()  # type: ignore[no-untyped-call]
    found = gradients(model)
    assert result.total.item() == pytest.approx(reference.item(), rel=1e-5)
    assert set(found) == set(expected) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_chunks_round_the_tables_gradient_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16, over 64 chunks: the error is about that of one chunk (with sums in bf16, 4.7 times it)."""
    monkeypatch.setattr(loss_module, "_SUMMED_ROWS", 128)
    generator = torch.Generator().manual_seed(0)
    table, hidden = (torch.randn(n, 64, generator=generator).bfloat16() for n in (300, 1024))
    table *= 0.1
    targets = torch.randint(0, 300, (1024,), generator=generator)

    def gradient(chunk: int, dtype: torch.dtype) -> Tensor:
        monkeypatch.setattr(loss_module, "CHUNK_POSITIONS", chunk)
        weight, given = (x.to(dtype, copy=True).requires_grad_() for x in (table, hidden))
        projected_cross_entropy(given, weight, targets)[0].backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None and weight.grad.dtype == dtype
        return weight.grad.float()

    exact = gradient(1024, torch.float32)
    whole, chunks = ((gradient(n, torch.bfloat16) - exact).norm() / exact.norm() for n in (1024, 16))
    assert chunks < 1.5 * whole < 0.01


def test_figures_per_position(data: Dataset) -> None:
    model, batch = lora_model(data), collate(data, range(4))
    result = supervised_loss(model, batch)
    assert len(result.losses) == len(result.right) == len(result.kinds) == int(batch.supervised.sum())
    assert result.losses.sum().item() == pytest.approx(result.total.item(), rel=1e-6)
    assert torch.equal(result.kinds, batch.kinds[batch.supervised])
    assert not result.losses.requires_grad


def test_trap_20_unsupervised_positions_cost_and_count_nothing(data: Dataset) -> None:
    model, batch = lora_model(data), collate(data, range(4))
    other = MicroBatch(
        batch.inputs, batch.targets.where(batch.supervised, 0), batch.kinds, batch.supervised, batch.documents
    )
    assert supervised_loss(model, other).total == supervised_loss(model, batch).total

    def flops(supervised: Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            supervised_loss(model, MicroBatch(batch.inputs, batch.targets, batch.kinds, supervised, batch.documents))
        return counter.get_total_flops()

    everywhere = torch.ones_like(batch.supervised)
    spared = int(everywhere.sum() - batch.supervised.sum())
    projection = 2 * spared * model.params.dim * model.params.vocab_size
    assert flops(everywhere) - flops(batch.supervised) >= projection


def test_sums_by_kind_add_up(data: Dataset) -> None:
    model, sums = lora_model(data), Sums()
    results = [supervised_loss(model, collate(data, [i])) for i in range(5)]
    for result in results:
        sums.add(result)
    tokens = sum(len(r.losses) for r in results)
    assert sums.tokens == tokens
    assert sums.loss == pytest.approx(sum(r.total.item() for r in results) / tokens, rel=1e-6)
    curves = sums.scalars("train")
    by_kind = {kind: sum(int((r.kinds == kind).sum()) for r in results) for kind in Kind}
    present = {kind for kind, count in by_kind.items() if count}
    assert present == set(Kind) - {Kind.PROMPT}
    assert {f"train_loss/{kind.name.lower()}" for kind in present} <= set(curves)
    weighted = sum(by_kind[kind] * curves[f"train_loss/{kind.name.lower()}"] for kind in present)
    assert weighted / tokens == pytest.approx(curves["train/loss"], rel=1e-6)
    right = sum(int(r.right.sum()) for r in results)
    assert curves["train/accuracy"] == pytest.approx(right / tokens)
    assert curves["train/perplexity"] == pytest.approx(2.718281828 ** curves["train/loss"], rel=1e-5)


def test_recomputing_keeps_the_inputs_of_blocks_only(data: Dataset) -> None:
    model, batch = lora_model(data), collate(data, range(4))
    kept = {}
    for model.recompute in (False, True):
        _, kept[model.recompute] = allocated_bytes(lambda: supervised_loss(model, batch))
    inputs = tiny.params(0).n_layers * batch.inputs.numel() * tiny.params(0).dim * 4
    assert inputs < kept[True] < 2 * inputs < kept[False] / 3


def test_recomputing_drops_the_same_activations_again(data: Dataset) -> None:
    found = []
    for recompute in (False, True):
        torch.manual_seed(5)
        model = lora_model(data)
        for _, module in lora_modules(model):
            module.dropout.p = 0.5
        model.recompute = recompute
        supervised_loss(model.train(), collate(data, range(4))).total.backward()  # type: ignore[no-untyped-call]
        found.append(gradients(model))
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))
