"""Adapters on disk: PEFT's layout out and in, the original project's in, and nothing lost between."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.model.lora import ALL_LINEAR, QV_ONLY, LoRAParams, add_lora
from callama.weights.adapter import (
    WEIGHTS,
    Adapter,
    adapter_of,
    find_adapter,
    load_adapter,
    read_adapter,
    save_adapter,
)
from callama.weights.lazy import permute_rows, unpermute_rows
from tests.model.tiny import LLAMA_3, ROUNDED, hf_model, logits, tiny, tokens, twin

LORA = LoRAParams(rank=3, scaling=2.0)


def random_adapter(params: Any = ROUNDED, lora: LoRAParams = LORA) -> Adapter:
    adapter = adapter_of(add_lora(tiny(params), lora), lora)
    torch.manual_seed(4)
    for a, b in adapter.factors.values():
        a.normal_()
        b.normal_(std=0.3)
    for magnitude in adapter.magnitudes.values():
        magnitude.uniform_(0.5, 1.5)
    return adapter


def same(left: Adapter, right: Adapter) -> bool:
    def equal(pair: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
        return all(x.dtype == y.dtype == torch.float32 and torch.equal(x, y) for x, y in zip(pair, other, strict=True))

    pairs = [(pair, right.factors.get(name, ())) for name, pair in left.factors.items()]
    pairs += [((length,), (right.magnitudes[name],)) for name, length in left.magnitudes.items()]
    keys = (left.factors.keys(), left.magnitudes.keys())
    return keys == (right.factors.keys(), right.magnitudes.keys()) and all(equal(*pair) for pair in pairs)


def saved(folder: Path, params: Any = ROUNDED, lora: LoRAParams = LORA) -> Adapter:
    adapter = random_adapter(params, lora)
    folder.mkdir(exist_ok=True)
    save_adapter(folder, adapter, params, "base")
    return adapter


@pytest.mark.parametrize("layers", [ALL_LINEAR, QV_ONLY, ("w2",)])
@pytest.mark.parametrize("params", [ROUNDED, LLAMA_3, replace(LLAMA_3, n_kv_heads=None)])
@pytest.mark.parametrize("kind", [{}, {"rslora": True}, {"dora": True}], ids=["LoRA", "rsLoRA", "DoRA"])
def test_an_adapter_reads_back_bit_for_bit(
    tmp_path: Path, layers: tuple[str, ...], params: Any, kind: dict[str, bool]
) -> None:
    lora = LoRAParams(rank=3, scaling=0.7, dropout=0.05, layers=layers, **kind)
    adapter = saved(tmp_path, params, lora)
    found = read_adapter(tmp_path, params)
    assert same(found, adapter)
    assert found.lora == replace(lora, scaling=found.lora.scaling) and found.lora.scaling == pytest.approx(0.7)
    assert {p.name for p in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_loading_an_adapter_gives_the_model_it_came_from(tmp_path: Path) -> None:
    adapter = saved(tmp_path, LLAMA_3)
    first, second = (add_lora(tiny(LLAMA_3), LORA) for _ in range(2))
    load_adapter(first, adapter)
    load_adapter(second, read_adapter(tmp_path, LLAMA_3))
    ids = tokens(12)
    assert torch.equal(logits(first, ids), logits(second, ids))
    assert not torch.allclose(logits(first, ids), logits(tiny(LLAMA_3), ids))


@pytest.mark.parametrize("layers", [("wq",), ("wk",), ALL_LINEAR])
@torch.no_grad()
def test_trap_25_peft_reads_the_adapter_and_computes_the_same(tmp_path: Path, layers: tuple[str, ...]) -> None:
    lora = replace(LORA, layers=layers)
    adapter = saved(tmp_path, LLAMA_3, lora)
    base = hf_model(LLAMA_3, tied=False)
    ours, ids = add_lora(twin(base, LLAMA_3, tied=False), lora), tokens(24)
    before = logits(ours, ids)
    load_adapter(ours, adapter)
    theirs = PeftModel.from_pretrained(base, tmp_path).eval()(ids[None]).logits[0]
    assert (logits(ours, ids) - theirs).abs().max() <= 1e-4
    assert (theirs - before).abs().max() > 1e-2, "an adapter without effect proves nothing"


def test_an_adapter_that_an_older_peft_wrote_is_read(tmp_path: Path) -> None:
    adapter = saved(tmp_path / "new", LLAMA_3)
    model = PeftModel.from_pretrained(hf_model(LLAMA_3, tied=False), tmp_path / "new")
    model.save_pretrained(tmp_path / "old", safe_serialization=False)
    assert not (tmp_path / "old" / WEIGHTS).exists()
    assert same(read_adapter(tmp_path / "old", LLAMA_3), adapter)


def test_trap_25_only_the_rows_of_b_of_q_and_k_are_permuted(tmp_path: Path) -> None:
    adapter = saved(tmp_path, LLAMA_3)
    written = load_file(tmp_path / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.1."
    for name, block, heads in (
        ("attention.wq", "self_attn.q_proj", 4),
        ("attention.wk", "self_attn.k_proj", 2),
        ("attention.wv", "self_attn.v_proj", None),
        ("feed_forward.w2", "mlp.down_proj", None),
    ):
        a, b = adapter.factors[f"layers.1.{name}"]
        assert torch.equal(written[f"{prefix}{block}.lora_A.weight"], a)
        rows = b if heads is None else b.view(heads, 16, 2, 3).transpose(1, 2).reshape(-1, 3)
        assert torch.equal(written[f"{prefix}{block}.lora_B.weight"], rows)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (3, 6, "LORA")


def test_permuting_rows_is_transformers_conversion_and_has_an_inverse() -> None:
    rows = torch.randn(4 * 8, 5)
    expected = rows.view(4, 32 // 4 // 2, 2, 5).transpose(1, 2).reshape(32, 5)
    assert torch.equal(permute_rows(rows, 4), expected) and torch.equal(unpermute_rows(expected, 4), rows)


def original(folder: Path, params: Any = ROUNDED, **config: Any) -> dict[str, Tensor]:
    """What michaelnny/Llama3-FunctionCalling leaves behind: a state dict and its lora.json."""
    factors = random_adapter(params).factors
    state = {f"{name}.lora_{x}": t for name, pair in factors.items() for x, t in zip("AB", pair, strict=True)}
    settings = {
        "lora_rank": 3, "lora_scaling": 2.0, "lora_dropout": 0.0, "train_bias": "none", "train_embedding": False,
        "train_qv_only": False, **config,
    }  # fmt: skip
    (folder / "lora.json").write_text(json.dumps(settings))
    torch.save(state, folder / "lora.pt")
    return state


def test_the_originals_adapter_is_read(tmp_path: Path) -> None:
    original(tmp_path)
    found = read_adapter(tmp_path / "lora.pt", ROUNDED)
    assert same(found, random_adapter()) and found.lora == LORA
    (tmp_path / "settings").mkdir()
    (tmp_path / "lora.json").rename(tmp_path / "settings" / "lora.json")
    assert same(read_adapter(tmp_path / "lora.pt", ROUNDED, tmp_path / "settings"), random_adapter())
    with pytest.raises(UsageError, match=r"lora\.json does not exist; expected the LoRA settings that lora\.pt"):
        read_adapter(tmp_path / "lora.pt", ROUNDED)


def test_the_originals_adapter_in_bf16_from_deepspeed_is_read(tmp_path: Path) -> None:
    state = original(tmp_path, train_qv_only=True)
    kept = {f"module.{k}": t.bfloat16() for k, t in state.items() if ".wq." in k or ".wv." in k}
    torch.save({**kept, "module.norm.weight": torch.ones(32)}, tmp_path / "lora.pt")
    found = read_adapter(tmp_path / "lora.pt", ROUNDED)
    assert set(found.factors) == {"layers.0.attention.wq", "layers.0.attention.wv"} and found.lora.layers == QV_ONLY
    for name, (a, b) in found.factors.items():
        assert torch.equal(a, state[f"{name}.lora_A"].bfloat16().float()) and b.dtype == torch.float32


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"train_embedding": True}, "adapters of the embedding"),
        ({"lora_rank": 0}, "lora_rank must be above zero, found 0"),
        ({"lora_rank": None}, "'lora_rank' is missing or of the wrong type, found None"),
        ({"lora_scaling": "1"}, "'lora_scaling' is missing or of the wrong type, found '1'"),
    ],
)
def test_settings_of_the_original_that_cannot_be_kept_are_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    original(tmp_path, **config)
    with pytest.raises(CallamaError, match=message) as caught:
        read_adapter(tmp_path / "lora.pt", ROUNDED)
    assert "lora.json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.0.attention.wq.lora_A": None}, r"layers\.0\.attention\.wq has only lora_B; both A and B are needed"),
        ({"tok_embeddings.lora_A": torch.ones(3, 11)}, r"tok_embeddings\.lora_A is not a LoRA factor of a linear"),
        ({"layers.9.attention.wq.lora_A": torch.ones(3, 32)}, "layers.9.attention.wq has only lora_A"),
    ],
)
def test_factors_of_the_original_that_cannot_be_kept_are_refused_not_dropped(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    state = {**original(tmp_path), **change}
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "lora.pt")
    with pytest.raises(CallamaError, match=message):
        read_adapter(tmp_path / "lora.pt", ROUNDED)


def test_a_file_without_lora_weights_is_refused(tmp_path: Path) -> None:
    original(tmp_path)
    torch.save({"norm.weight": torch.ones(3)}, tmp_path / "lora.pt")
    with pytest.raises(CallamaError, match=r"lora\.pt holds no LoRA weights"):
        read_adapter(tmp_path / "lora.pt", ROUNDED)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set; only LoRA, rsLoRA and DoRA of one rank are read"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern is set"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern is set"),
        ({"r": "8"}, "'r' is missing or of the wrong type, found '8'"),
        ({"r": 0}, "r must be above zero, found 0"),
        ({"lora_alpha": None}, "'lora_alpha' is missing"),
        ({"target_modules": ["lm_head"]}, "target module 'lm_head' is not a linear layer of Llama"),
        ({"target_modules": None}, "'target_modules' is missing or of the wrong type, found None"),
    ],
)
def test_trap_31_what_cannot_be_kept_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    saved(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(CallamaError, match=message) as caught:
        read_adapter(tmp_path, ROUNDED)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("written", [True, False])
def test_magnitudes_that_the_configuration_contradicts_are_refused(tmp_path: Path, written: bool) -> None:
    saved(tmp_path, lora=replace(LORA, dora=written))
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_dora": not written}))
    with pytest.raises(CallamaError, match=rf"use_dora is {not written} in adapter_config\.json, which the tensors"):
        read_adapter(tmp_path, ROUNDED)


def test_the_scale_of_rslora_is_alpha_over_the_root_of_the_rank(tmp_path: Path) -> None:
    saved(tmp_path, lora=LoRAParams(rank=9, scaling=2.0, rslora=True))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (9, 6, True)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("alpha", [16.0, 0.3, 1e-11, -2.1, 4 / 3, 0.0])
@pytest.mark.parametrize("rank", [1, 3, 4, 24])
def test_alpha_is_written_as_it_was_or_shorter(tmp_path: Path, rank: int, alpha: float, rslora: bool) -> None:
    scaling = alpha / (rank**0.5 if rslora else rank)
    saved(tmp_path, lora=LoRAParams(rank, scaling, rslora=rslora))
    assert read_adapter(tmp_path, ROUNDED).lora.scaling == scaling
    written = json.loads((tmp_path / "adapter_config.json").read_text())["lora_alpha"]
    assert len(str(written)) <= len(str(alpha)) and written == pytest.approx(alpha, rel=1e-15)


@pytest.mark.parametrize("text", ["[]", "3", "{"])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    saved(tmp_path)
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(CallamaError, match=r"adapter_config\.json (must be a JSON object|is not JSON)"):
        read_adapter(tmp_path, ROUNDED)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base_model.model.lm_head.lora_A.weight", "is not a LoRA factor of Llama"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight", "is not a LoRA factor"),
        ("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight", "has only lora_A; both A and B are needed"),
    ],
)
def test_a_tensor_that_is_no_factor_is_named(tmp_path: Path, key: str, message: str) -> None:
    saved(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    save_file({**load_file(weights), key: torch.ones(3, 32)}, weights)
    with pytest.raises(CallamaError, match=message):
        read_adapter(tmp_path, ROUNDED)


def test_a_damaged_or_missing_adapter_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CallamaError, match=r"adapter_model\.safetensors is cut short"):
        read_adapter(tmp_path / "adapter", ROUNDED)
    weights.unlink()
    with pytest.raises(UsageError, match=r"adapter_model\.safetensors does not exist; expected the adapter's weights"):
        read_adapter(tmp_path / "adapter", ROUNDED)
    with pytest.raises(UsageError, match="is neither an adapter folder"):
        read_adapter(tmp_path / "gone", ROUNDED)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (replace(ROUNDED, dim=64), r"layers\.0\.\w+\.\w+ has A, B of .*, this base needs .*; another base\?"),
        (replace(ROUNDED, n_kv_heads=2), r"layers\.0\.attention\.wk has A, B of"),
        (replace(ROUNDED, multiple_of=128), r"layers\.0\.feed_forward\.w\d has A, B of"),
    ],
)
def test_an_adapter_of_another_shape_is_refused(tmp_path: Path, base: Any, message: str) -> None:
    saved(tmp_path)
    with pytest.raises(CallamaError, match=message):
        read_adapter(tmp_path, base)


def test_an_adapter_of_a_deeper_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, replace(ROUNDED, n_layers=2))
    with pytest.raises(CallamaError, match=r"layers\.1\.\S+ does not exist in a model of 1 layers; another base\?"):
        read_adapter(tmp_path, ROUNDED)


def test_a_jobs_folder_means_its_newest_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "step_000200").mkdir()
    assert find_adapter(tmp_path) == tmp_path
    (tmp_path / "latest").write_text("step_000200\n")
    assert find_adapter(tmp_path) == tmp_path / "step_000200"
