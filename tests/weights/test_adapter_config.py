"""The settings beside an adapter: what they name is what is merged, and what they ask for beyond that is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from callama.common.errors import CallamaError
from callama.model.lora import ALL_LINEAR, LoRAParams, add_lora
from callama.weights.adapter import load_adapter, read_adapter, save_adapter
from tests.model.tiny import LLAMA_3, ROUNDED, hf_model, logits, tokens, twin
from tests.weights.test_adapter import original, same, saved

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DEEP = replace(ROUNDED, n_layers=2)
BIG = 10**400


def configure(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "beginning", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga", "mica", "of next year", 3]
)
def test_an_adapter_that_changed_its_base_is_refused(tmp_path: Path, beginning: object) -> None:
    saved(tmp_path)
    configure(tmp_path, init_lora_weights=beginning)
    with pytest.raises(CallamaError, match=r"adapter_config\.json: init_lora_weights is .*, which may change the base"):
        read_adapter(tmp_path, ROUNDED)


@pytest.mark.parametrize("beginning", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_other_beginnings_leave_the_base_alone(tmp_path: Path, beginning: object) -> None:
    adapter = saved(tmp_path)
    configure(tmp_path, init_lora_weights=beginning)
    assert same(read_adapter(tmp_path, ROUNDED), adapter)


@pytest.mark.parametrize(
    "change",
    [
        {"alora_invocation_tokens": [1, 2]}, {"layer_replication": [[0, 2], [1, 2]]}, {"fan_in_fan_out": True},
        {"bias": "all"}, {"bias": "lora_only"}, {"lora_bias": True}, {"trainable_token_indices": [3]},
        {"target_parameters": ["x"]}, {"use_qalora": True}, {"megatron_config": {"a": 1}}, {"layers_pattern": "h"},
        {"arrow_config": {"top_k": 2}}, {"kasa_config": {"beta": 1}}, {"a_key_of_next_year": 1},
    ],
)  # fmt: skip
def test_what_makes_it_more_than_lora_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    saved(tmp_path)
    configure(tmp_path, **change)
    with pytest.raises(CallamaError, match=rf"{CONFIG}: {next(iter(change))} is set; only LoRA, .* take it out"):
        read_adapter(tmp_path, ROUNDED)


def test_another_kind_of_adapter_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    configure(tmp_path, peft_type="LOHA")
    with pytest.raises(CallamaError, match=r"peft_type is 'LOHA'; only 'LORA' is read"):
        read_adapter(tmp_path, ROUNDED)


def test_what_peft_itself_writes_is_read(tmp_path: Path) -> None:
    """Every key that peft writes for a plain LoRA, whatever its version adds."""
    base = hf_model(LLAMA_3, tied=False)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "down_proj"])).save_pretrained(str(tmp_path))
    assert read_adapter(tmp_path, LLAMA_3).lora.layers == ("wq", "w2")


@pytest.mark.parametrize(
    "targets",
    [
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(self_attn|mlp)\..*_proj"},
        {"target_modules": [f"self_attn.{x}_proj" for x in "qkvo"] + ["gate_proj", "up_proj", "down_proj"]},
    ],
)
def test_target_modules_in_any_of_pefts_spellings(tmp_path: Path, targets: dict[str, Any]) -> None:
    adapter = saved(tmp_path, DEEP)
    configure(tmp_path, **targets)
    found = read_adapter(tmp_path, DEEP)
    assert same(found, adapter) and found.lora.layers == ALL_LINEAR


PARTIAL = [
    {"target_modules": ["model.layers.1.self_attn.q_proj", "model.layers.0.mlp.up_proj"]},
    {"target_modules": r"model\.layers\.1\.(self_attn\.[qk]_proj|mlp\.down_proj)"},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 0},
    {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
    {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*0.*v_proj"},
]


@pytest.mark.parametrize("targets", PARTIAL)
@torch.no_grad()
def test_an_adapter_of_some_layers_is_what_peft_makes_of_it(tmp_path: Path, targets: dict[str, Any]) -> None:
    """Read, computed, written again and read by peft."""
    base = hf_model(LLAMA_3, tied=False)
    theirs = get_peft_model(base, LoraConfig(r=2, lora_alpha=8, **targets)).eval()
    torch.manual_seed(1)
    for name, tensor in theirs.named_parameters():
        if "lora_B" in name:
            tensor.normal_(std=0.2)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    ids = tokens(24)
    expected = theirs(ids[None]).logits[0]
    adapter = read_adapter(tmp_path / "theirs", LLAMA_3)
    plain = hf_model(LLAMA_3, tied=False)
    ours = add_lora(twin(plain, LLAMA_3, tied=False), adapter.lora)
    before = logits(ours, ids)
    load_adapter(ours, adapter)
    assert (logits(ours, ids) - expected).abs().max() <= 1e-4 < 1e-2 < (before - expected).abs().max()
    (tmp_path / "ours").mkdir()
    save_adapter(tmp_path / "ours", adapter, LLAMA_3, "base")
    again = read_adapter(tmp_path / "ours", LLAMA_3)
    assert same(again, adapter) and again.lora == replace(adapter.lora, dropout=again.lora.dropout)
    found = PeftModel.from_pretrained(plain, tmp_path / "ours").eval()
    assert {n for n, _ in found.named_parameters()} == {n for n, _ in theirs.named_parameters()}
    assert (found(ids[None]).logits[0] - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"target_modules": ["q_proj"]}, r"holds factors of layers\.0\.attention\.w\w, which .* does not name"),
        ({"layers_to_transform": [0]}, r"holds factors of layers\.1\.\S+, which"),
        ({"exclude_modules": ["v_proj"]}, r"holds factors of layers\.0\.attention\.wv, which"),
        ({"target_modules": []}, r"target_modules \[\] names no linear layer of a Llama of 2 layers"),
        ({"target_modules": "q_proj"}, "target_modules 'q_proj' names no linear layer"),
        ({"layers_to_transform": [7]}, "names no linear layer"),
        ({"layers_to_transform": ["x"]}, "layers_to_transform must hold numbers of layers"),
        ({"target_modules": "("}, r"'\(' is not a regular expression"),
        ({"exclude_modules": [3]}, "names of modules must be a list or a regular expression"),
        ({"target_modules": ["q_proj", 3]}, "target module 3 is not a linear layer"),
    ],
)
def test_factors_and_targets_that_do_not_go_together_are_refused(
    tmp_path: Path, targets: dict[str, Any], message: str
) -> None:
    saved(tmp_path, DEEP)
    configure(tmp_path, **targets)
    with pytest.raises(CallamaError, match=message) as said:
        read_adapter(tmp_path, DEEP)
    assert CONFIG in str(said.value)


@pytest.mark.parametrize("gone", [".layers.1.", ".layers.0.self_attn.v_proj."])
def test_an_adapter_that_lacks_a_layers_factors_is_refused(tmp_path: Path, gone: str) -> None:
    saved(tmp_path, DEEP)
    kept = {key: tensor for key, tensor in load_file(tmp_path / WEIGHTS).items() if gone not in key}
    save_file(kept, tmp_path / WEIGHTS)
    with pytest.raises(CallamaError, match=r"lacks the factors of layers\.\d\.\S+, which .* names: is the copy"):
        read_adapter(tmp_path, DEEP)


@pytest.mark.parametrize("odd", ["mlp.q_proj", "self_attn.up_proj", "self_attn.x_proj"])
def test_a_layer_in_the_wrong_block_is_refused(tmp_path: Path, odd: str) -> None:
    saved(tmp_path)
    name = "self_attn." + odd.split(".")[1] if odd.startswith("mlp") else "mlp.up_proj"
    renamed = {key.replace(name, odd): tensor for key, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file(renamed, tmp_path / WEIGHTS)
    with pytest.raises(CallamaError, match=rf"tensor '.*{odd}.*' is not a LoRA factor of Llama"):
        read_adapter(tmp_path, ROUNDED)


@pytest.mark.parametrize(("qv_only", "said"), [(True, "does not name"), (False, "lacks the factors of")])
def test_the_originals_settings_must_name_the_factors(tmp_path: Path, qv_only: bool, said: str) -> None:
    state = original(tmp_path, train_qv_only=qv_only)
    if not qv_only:
        torch.save({n: t for n, t in state.items() if ".wq." in n or ".wv." in n}, tmp_path / "lora.pt")
    with pytest.raises(CallamaError, match=rf"lora\.pt .*{said}") as found:
        read_adapter(tmp_path / "lora.pt", ROUNDED)
    assert "lora.json" in str(found.value)


def test_without_a_word_on_it_only_q_and_v_are_meant_as_in_the_originals_code(tmp_path: Path) -> None:
    state = original(tmp_path, train_qv_only=True)
    torch.save({n: t for n, t in state.items() if ".wq." in n or ".wv." in n}, tmp_path / "lora.pt")
    settings = json.loads((tmp_path / "lora.json").read_text())
    del settings["train_qv_only"]
    (tmp_path / "lora.json").write_text(json.dumps(settings))
    assert {name.rsplit(".", 1)[1] for name in read_adapter(tmp_path / "lora.pt", ROUNDED).factors} == {"wq", "wv"}


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -float("inf"), BIG, 1e13, True], ids=str.__call__)
@pytest.mark.parametrize("key", ["lora_alpha", "lora_scaling", "lora_dropout"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, key: str, value: float) -> None:
    if key == "lora_scaling":
        original(tmp_path, lora_scaling=value)
    else:
        saved(tmp_path)
        configure(tmp_path, **{key: value})
    with pytest.raises(CallamaError, match=rf"json: (key )?'?{key}'? (must be a number from|is missing or)") as said:
        read_adapter(tmp_path / "lora.pt" if key == "lora_scaling" else tmp_path, ROUNDED)
    assert len(str(said.value)) < 400


@pytest.mark.parametrize("rank", [10**20, BIG, (1 << 16) + 1], ids=["1e20", "1e400", "65,537"])
def test_impossible_ranks_are_refused(tmp_path: Path, rank: int) -> None:
    saved(tmp_path)
    configure(tmp_path, r=rank)
    with pytest.raises(CallamaError, match=r"adapter_config\.json: r must be at most 65,536, found \d"):
        read_adapter(tmp_path, ROUNDED)
    original(tmp_path, lora_rank=rank)
    with pytest.raises(CallamaError, match=r"lora\.json: lora_rank must be at most 65,536, found \d"):
        read_adapter(tmp_path / "lora.pt", ROUNDED)


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 1e5), (torch.bfloat16, 3.4e38)])
@pytest.mark.parametrize("dora", [False, True])
def test_rounding_an_adapter_to_a_type_that_cannot_hold_it_is_refused(
    tmp_path: Path, dtype: torch.dtype, value: float, dora: bool
) -> None:
    adapter = saved(tmp_path, lora=LoRAParams(3, 2.0, dora=dora))
    name, (_, b) = next(iter(adapter.factors.items()))
    (adapter.magnitudes[name] if dora else b)[0] = value
    with pytest.raises(CallamaError, match=rf"{name}\.\w+ has numbers beyond .*, the largest of \w+16: take --dtype"):
        adapter.cast(dtype)


def test_numbers_of_an_adapter_that_fp32_cannot_hold_are_refused(tmp_path: Path) -> None:
    """An adapter is kept in fp32, whatever it was in."""
    said = r"has numbers beyond 3\.40e38, the largest of fp32: take an adapter from before its training broke"
    saved(tmp_path / "peft", lora=LoRAParams(3, 2.0, dora=True))
    state = {key: tensor.double() for key, tensor in load_file(tmp_path / "peft" / WEIGHTS).items()}
    for part in ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"):
        key = next(key for key in state if key.endswith(part))
        save_file({**state, key: state[key] * 1e39}, tmp_path / "peft" / WEIGHTS)
        with pytest.raises(CallamaError, match=rf"{WEIGHTS}: {key} {said}"):
            read_adapter(tmp_path / "peft", ROUNDED)
    state = {key: tensor.double() for key, tensor in original(tmp_path).items()}
    key = next(iter(state))
    torch.save({**state, key: state[key] * 1e39}, tmp_path / "lora.pt")
    with pytest.raises(CallamaError, match=rf"lora\.pt: {key} {said}"):
        read_adapter(tmp_path / "lora.pt", ROUNDED)
