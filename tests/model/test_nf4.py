"""Frozen layers in 4 bits: the library's own arithmetic, and nothing but the packed weight is kept."""

from __future__ import annotations

import pytest
import torch

from callama.model.lora import LoRAParams, add_lora, lora_modules
from callama.model.nf4 import NF4Linear, packed_bytes
from tests.model.tiny import logits, tiny, tokens

bitsandbytes = pytest.importorskip("bitsandbytes")


def layer(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, NF4Linear]:
    weight = torch.randn(96, 128, generator=torch.Generator().manual_seed(0)) / 11
    return weight, NF4Linear(weight, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product_and_gradient_are_those_of_the_librarys_layer(dtype: torch.dtype) -> None:
    weight, ours = layer(dtype)
    theirs = bitsandbytes.nn.Linear4bit(128, 96, bias=False, compute_dtype=dtype, quant_type="nf4")
    theirs.weight = bitsandbytes.nn.Params4bit(
        weight.to(dtype), requires_grad=False, quant_type="nf4", blocksize=64, compress_statistics=True
    )
    theirs.to("cpu")
    x, gradient = torch.randn(7, 128, dtype=dtype), torch.randn(7, 96, dtype=dtype)
    found = []
    for module in (ours, theirs):
        x = x.detach().requires_grad_()
        y = module(x)
        y.backward(gradient)
        found.append((y, x.grad))
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(96, 128), (32, 32), (96, 33), (576, 1536)])
def test_rounding_is_that_of_four_bits_whatever_the_length_of_rows(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) / 11
    packed = NF4Linear(weight, torch.float32)
    error = (packed.weight - weight).abs().mean() / weight.abs().mean()
    assert 0.05 < error < 0.12
    assert packed.weight.dtype == torch.float32 and packed.weight.shape == weight.shape


def test_the_weight_takes_as_many_bytes_as_we_say() -> None:
    weight, packed = layer()
    state = packed._state
    held = [packed._packed, state.absmax, state.state2.absmax]
    assert sum(t.numel() * t.itemsize for t in held) == packed_bytes(weight.numel())


def test_only_the_packed_weight_is_kept_for_the_way_back() -> None:
    _, packed = layer()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        packed(torch.randn(3, 128, requires_grad=True))
    assert not kept


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_train_around_it(dora: bool) -> None:
    model = tiny()
    for block in model.layers:
        block.feed_forward.w1 = NF4Linear(block.feed_forward.w1.weight.detach(), torch.float32)
    before = logits(model, tokens(8)).detach()
    add_lora(model, LoRAParams(4, 1.0, dora=dora))
    assert torch.equal(logits(model, tokens(8)), before)
    logits(model, tokens(8)).pow(2).sum().backward()
    module = dict(lora_modules(model))["layers.1.feed_forward.w1"]
    assert isinstance(module.base, NF4Linear) and module.lora_b.grad.abs().max() > 0
