"""The operations of a step are those that torch itself counts, and the measured peak is a rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from callama.model.lora import QV_ONLY, LoRAParams
from callama.train.loss import supervised_loss
from callama.train.memory import Load
from callama.train.peak import measured_peak, micro_batch_flops
from tests.train.test_memory import LORA, batch_of, model_of, setting

DOCUMENTS, SUPERVISED = [[300, 100, 50], [128]], 200


def _added(_into: Any, one: list[int], other: list[int], **_: Any) -> int:
    """Of a product added in place, which torch does not know how to count."""
    return 2 * one[0] * one[1] * other[1]


def counted_by_torch(layers: int, lora: LoRAParams | None) -> int:
    """Operations of all products of a micro-batch, those of attention left out."""
    model, batch = model_of(setting(layers, lora=lora)), batch_of(DOCUMENTS, SUPERVISED)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _added}) as counter:
        supervised_loss(model, batch).total.backward()  # type: ignore[no-untyped-call]
    products = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
    return sum(n for product, n in counter.get_flop_counts()["Global"].items() if product in products)


def without_attention(layers: int, lora: LoRAParams | None) -> int:
    params = setting(layers).params
    load = Load(DOCUMENTS, SUPERVISED)
    pairs = 300 * 301 // 2 + 100 * 300 + 100 * 101 // 2 + 50 * 300 + 50 * 51 // 2 + 128 * 129 // 2
    return micro_batch_flops(params, lora, load) - layers * 12 * params.dim * pairs


@pytest.mark.parametrize("lora", [LORA, LoRAParams(8, 1.0, layers=QV_ONLY), None], ids=["LoRA", "q and v", "full"])
def test_operations_are_those_that_torch_counts(lora: LoRAParams | None) -> None:
    """Of a block exactly; the first one of a model asks for no gradient of its input where that is frozen."""
    assert without_attention(4, lora) - without_attention(3, lora) == (
        counted_by_torch(4, lora) - counted_by_torch(3, lora)
    )
    assert counted_by_torch(3, lora) == pytest.approx(without_attention(3, lora), rel=0.06)


def test_the_peak_is_the_rate_of_products_and_leaves_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    peak = measured_peak(torch.device("cpu"), torch.float32)
    assert 1e8 < peak < 1e14
    assert torch.equal(state, torch.get_rng_state())
