"""The transformer as it is read without gradients computes what the transformer computes."""

from __future__ import annotations

import copy

import pytest
import torch

from callama.model.attend import Documents
from callama.model.lora import LoRAParams, add_lora, lora_modules
from callama.model.packed import PackedTransformer
from callama.model.transformer import Transformer
from tests import tiny

LORAS = {
    "none": None,
    "all layers": LoRAParams(4, 1.5),
    "some layers": LoRAParams(4, 1.5, layers=("wv", "w1", "w2")),
    "DoRA": LoRAParams(4, 1.5, dora=True),
}


def changed(model: Transformer, lora: LoRAParams | None) -> Transformer:
    """The model with an adapter that matters."""
    if lora is not None:
        add_lora(model, lora)
        torch.manual_seed(1)
        for _, module in lora_modules(model):
            torch.nn.init.normal_(module.lora_b, std=0.1)
            if module.magnitude is not None:
                module.magnitude.data.mul_(torch.rand(len(module.magnitude)) + 0.5)
    return model.eval()


@torch.inference_mode()
def logits(model: Transformer | PackedTransformer, rows: int) -> torch.Tensor:
    ids = torch.arange(rows)[None] * 7 % 97
    return model.logits(model(ids, Documents([[rows]])))[0]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_logits_are_those_of_the_transformer(lora: LoRAParams | None, tied: bool, rows: int) -> None:
    model = changed(tiny.random_model(97, tied=tied), lora)
    expected = logits(model, rows)
    made = logits(PackedTransformer(model), rows)
    torch.testing.assert_close(made, expected, atol=2e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
def test_bf16_is_as_far_from_fp32_as_the_transformer_is(lora: LoRAParams | None) -> None:
    model = changed(tiny.random_model(97), lora)
    exact = logits(model, 40)
    for module in (rounded := copy.deepcopy(model)).modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name not in ("lora_a", "lora_b", "magnitude"):
                parameter.data = parameter.data.bfloat16()
    off = (logits(rounded, 40) - exact).norm()
    assert (logits(PackedTransformer(rounded), 40) - exact).norm() < 1.2 * off


def test_weights_move() -> None:
    model = tiny.random_model(97)
    packed = PackedTransformer(model)
    assert (len(model.layers), model.output, len(packed.layers)) == (0, None, packed.params.n_layers)
