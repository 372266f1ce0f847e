"""The memory that is counted is the memory that is taken: each term against the allocator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from callama.data.pack import MicroBatch
from callama.model.lora import ALL_LINEAR, QV_ONLY, LoRAParams, add_lora
from callama.model.params import ModelParams
from callama.model.transformer import Dropout, Transformer
from callama.train import memory
from callama.train.config import OptimizerSection, ZeroSection
from callama.train.engine import PlainEngine
from callama.train.loss import supervised_loss
from callama.train.memory import Load, Setting
from tests.train.memory import allocated_bytes

PARAMS = ModelParams(dim=192, n_layers=2, n_heads=6, n_kv_heads=2, vocab_size=500, multiple_of=64)
LORA = LoRAParams(8, 1.0)
LAYOUTS = {
    "one": [[640]],
    "short": [[160]] * 4,
    "mixed": [[540], [100]],
    "branches": [[200, 156, 156], [128]],
}


def setting(layers: int = 2, **changes: Any) -> Setting:
    plain = Setting(replace(PARAMS, n_layers=layers), True, LORA, False, torch.float32, False, False, True, None, 1)
    return replace(plain, **changes)


def model_of(made: Setting) -> Transformer:
    model = Transformer(made.params, tied=made.tied, dropout=made.dropout).to(made.dtype)
    if made.lora is not None:
        add_lora(model, made.lora)
    model.recompute = made.recompute
    return model.train()


def batch_of(documents: list[list[int]], supervised: int = 64) -> MicroBatch:
    tokens = sum(map(sum, documents))
    ids = torch.randint(0, PARAMS.vocab_size, (tokens,), generator=torch.Generator().manual_seed(0))
    return MicroBatch(ids[None], ids, torch.ones_like(ids), torch.arange(tokens) < supervised, documents)


def kept(made: Setting, documents: list[list[int]]) -> int:
    model, batch = model_of(made), batch_of(documents)
    return allocated_bytes(lambda: supervised_loss(model, batch))[1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "lora",
    [LORA, None, replace(LORA, dropout=0.1), replace(LORA, dora=True), replace(LORA, layers=QV_ONLY)],
    ids=["LoRA", "full", "dropout", "DoRA", "q and v"],
)
def test_what_a_block_keeps_is_counted_to_the_byte(layout: str, dtype: torch.dtype, lora: LoRAParams | None) -> None:
    documents = LAYOUTS[layout]
    two, three = (setting(layers, dtype=dtype, lora=lora) for layers in (2, 3))
    assert memory.kept_by_block(two, Load(documents, 64)) == kept(three, documents) - kept(two, documents)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [2, 6], ids=["shared heads", "own heads"])
@pytest.mark.parametrize("dropout", [Dropout(hidden=0.1), Dropout(attention=0.1), Dropout(0.1, 0.1, 0.1)])
def test_what_dropouts_keep_is_counted_to_the_byte(
    layout: str, dtype: torch.dtype, heads: int, dropout: Dropout
) -> None:
    documents, shape = LAYOUTS[layout], replace(PARAMS, n_kv_heads=heads)
    two, three = (
        setting(params=replace(shape, n_layers=layers), dtype=dtype, dropout=dropout, lora=LORA) for layers in (2, 3)
    )
    assert memory.kept_by_block(two, Load(documents, 64)) == kept(three, documents) - kept(two, documents)


def test_dropped_embeddings_are_kept_where_they_are_trained() -> None:
    dropout, load = Dropout(embed=0.1), Load(LAYOUTS["one"], 64)
    for lora in (None, LORA):
        plain, dropped = setting(lora=lora), setting(lora=lora, dropout=dropout)
        more = memory.activation_bytes(dropped, load) - memory.activation_bytes(plain, load)
        assert more == kept(dropped, LAYOUTS["one"]) - kept(plain, LAYOUTS["one"])


def test_branches_on_a_gpu_keep_keys_and_values_for_each_head() -> None:
    """As the memory-efficient kernel does, and no scores, which are counted on a CPU where weights are dropped."""
    on_gpu = setting(dtype=torch.bfloat16, on_cpu=False)
    trunk, branch = 700, 101
    dim = PARAMS.dim
    whole = memory.kept_by_block(on_gpu, Load([[trunk, branch]], 64))
    apart = memory.kept_by_block(on_gpu, Load([[trunk], [branch]], 64))
    keys = trunk + branch
    assert whole - apart == 2 * keys * dim * 2 + branch * 808 * 2
    dropping = replace(on_gpu, dropout=Dropout(attention=0.1))
    assert memory.kept_by_block(dropping, Load([[trunk, branch]], 64)) == whole
    assert whole < memory.kept_by_block(replace(dropping, on_cpu=True), Load([[trunk, branch]], 64)) / 2
    in_fp32 = replace(on_gpu, dtype=torch.float32)
    assert (
        memory.kept_by_block(in_fp32, Load([[trunk]], 64))
        - memory.kept_by_block(replace(in_fp32, on_cpu=True), Load([[trunk]], 64))
        == 2 * trunk * dim * 4
    )


def test_a_block_that_is_run_again_keeps_its_input() -> None:
    two, three = (setting(layers, recompute=True) for layers in (2, 3))
    documents = LAYOUTS["one"]
    found = kept(three, documents) - kept(two, documents)
    counted = memory.activation_bytes(three, Load(documents, 64)) - memory.activation_bytes(two, Load(documents, 64))
    assert counted == found < memory.kept_by_block(two, Load(documents, 64)) / 8


@pytest.mark.parametrize("lora", [LORA, replace(LORA, dora=True), replace(LORA, layers=QV_ONLY), None])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_what_is_trained_are_counted_exactly(lora: LoRAParams | None, tied: bool) -> None:
    made = setting(lora=lora, tied=tied)
    model = model_of(made)
    assert memory.trained_numbers(made) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = [p for name, p in model.named_parameters() if "lora_" not in name and "magnitude" not in name]
    assert memory.weight_numbers(made) == sum(p.numel() for p in frozen)


@pytest.mark.parametrize("layout", ["one", "branches"])
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"dtype": torch.bfloat16}, {"recompute": True}, {"lora": None}, {"lora": None, "dtype": torch.bfloat16},
        {"lora": replace(LORA, dora=True)}, {"accumulates": True},
        {"params": replace(PARAMS, vocab_size=9000)}, {"dropout": Dropout(0.1, 0.1, 0.1)},
        {"dropout": Dropout(0.1, 0.1, 0.1), "dtype": torch.bfloat16, "recompute": True},
    ],
    ids=["LoRA", "bf16", "recompute", "full", "full in bf16", "DoRA", "accumulated", "large vocabulary", "dropouts",
         "dropouts in bf16, run again"],
)  # fmt: skip
def test_the_peak_of_a_step_is_within_15_percent(layout: str, changes: dict[str, Any]) -> None:
    """Of a whole second step: optimizer state is there, gradients come and go. Weights are counted exactly above."""
    made, documents = setting(**changes), LAYOUTS[layout]
    model, batch = model_of(made), batch_of(documents, 300)
    engine = PlainEngine(model, OptimizerSection(), 1.0)

    def step() -> None:
        for last in (False, True) if made.accumulates else (True,):
            engine.backward(engine.loss(batch).total, last=last)
        engine.step(1e-4, 300.0)

    step()
    found, _ = allocated_bytes(step)
    load = Load(documents, 300)
    parts = memory.parts(made, load)
    there = parts["weights"] + parts["adapter"] + parts["optimizer"]  # before the step already
    assert memory.peak_bytes(made, load) - there == pytest.approx(found, rel=0.15)


def test_zero_parts_what_its_stage_says() -> None:
    load, big = Load([[128]], 32), replace(PARAMS, n_layers=40, dim=1920, n_heads=60, n_kv_heads=20)
    plain = memory.parts(setting(params=big, lora=None), load)
    small = {"reduce_bucket_size": 1000, "stage3_max_live_parameters": 1000}
    for stage in (1, 2, 3):
        zero = ZeroSection.model_validate({"stage": stage, **small})
        part = memory.parts(setting(params=big, lora=None, zero=zero, devices=4), load)
        assert part["optimizer"] == plain["optimizer"] // 4
        assert part["gradients"] == plain["gradients"] // (4 if stage >= 2 else 1)
        assert part["weights"] == pytest.approx(plain["weights"] / (4 if stage == 3 else 1), rel=1e-3)
    offload = ZeroSection.model_validate({"stage": 3, **small, "offload_optimizer": {"device": "cpu"}})
    on_gpu = setting(params=big, zero=offload, devices=4, on_cpu=False)
    assert memory.parts(on_gpu, load)["optimizer"] == 0
    assert memory.parts(replace(on_gpu, on_cpu=True), load)["optimizer"] > 0  # main memory is the device's own


def test_four_bits_take_a_little_more_than_an_eighth_of_fp32() -> None:
    made = setting(params=replace(PARAMS, vocab_size=8, n_layers=40))
    ratio = memory.weight_bytes(replace(made, packed=True)) / memory.weight_bytes(made)
    assert 1 / 8 < ratio < 1 / 7


def test_all_linear_layers_have_their_shapes() -> None:
    model = Transformer(PARAMS, tied=True)
    found = dict(model.layers[0].named_modules())
    places = {name: found[f"attention.{name}" if name in ("wq", "wk", "wv", "wo") else f"feed_forward.{name}"]
              for name in ALL_LINEAR}  # fmt: skip
    assert {name: tuple(layer.weight.shape) for name, layer in places.items()} == memory.linear_shapes(PARAMS)
