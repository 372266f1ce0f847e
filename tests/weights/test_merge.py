"""Merging: base plus adapter becomes one checkpoint that computes what the two computed."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, read_manifest, sha256_file
from callama.model.lora import LoRAParams, add_lora, lora_modules
from callama.model.params import ModelParams
from callama.model.transformer import Transformer
from callama.weights.adapter import adapter_of, save_adapter
from callama.weights.merge import merge_to_folder
from callama.weights.native import build_model, read_native, write_native
from tests.model.tiny import FAMILIES, LLAMA_3, LLAMA_3_2, hf_model, hf_name, logits, tiny, tokens, twin

LORA = LoRAParams(rank=4, scaling=1.5)


def snapshot(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in folder.rglob("*") if p.is_file()}


def prepare(
    root: Path,
    model: Transformer,
    *,
    dtype: torch.dtype = torch.float32,
    facts: Mapping[str, Any] | None = None,
    lora: LoRAParams = LORA,
) -> None:
    """``base`` from the model, ``adapter`` from factors that the model is then wrapped with."""
    state = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    write_native(root / "base", model.params, state, None, {"dtype": "as made"})
    add_lora(model, lora)
    torch.manual_seed(6)
    for _, module in lora_modules(model):
        torch.nn.init.normal_(module.lora_b, std=0.1)
        if module.magnitude is not None:
            module.magnitude.data *= 1 + 0.2 * torch.rand_like(module.magnitude)
    sha = {"base_sha256": sha256_file(root / "base" / "consolidated.pth")}
    with atomic_folder(root / "adapter", sha if facts is None else facts) as folder:
        save_adapter(folder, adapter_of(model, lora), model.params, "base")


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_merged_model_computes_what_base_and_adapter_do(tmp_path: Path, family: str) -> None:
    params, tied = FAMILIES[family]
    model, ids = tiny(params, tied=tied), tokens(24)
    alone = logits(model, ids)
    prepare(tmp_path, model)
    sources = snapshot(tmp_path)
    merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    checkpoint = read_native(tmp_path / "merged")
    merged = logits(build_model(checkpoint, dtype=torch.float32), ids)
    expected = logits(model, ids)
    assert (merged - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (expected - alone).abs().max() > 0.1, "an adapter without effect proves nothing"
    assert checkpoint.params == params and checkpoint.tied == tied
    found = snapshot(tmp_path)
    assert {name: found[name] for name in sources} == sources, "a source was changed"


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"rslora": True}, {"dora": True}], ids=["LoRA", "rsLoRA", "DoRA"])
def test_merging_is_what_peft_merges(tmp_path: Path, changes: dict[str, bool]) -> None:
    base = hf_model(LLAMA_3, tied=False)
    ours, ids = twin(base, LLAMA_3, tied=False), tokens(24)
    prepare(tmp_path, ours, lora=replace(LORA, **changes))
    errors = merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    assert errors["fp32"].max_logit < 1e-4 < errors["bf16"].max_logit
    merged = build_model(read_native(tmp_path / "merged"), dtype=torch.float32)
    torch.testing.assert_close(logits(merged, ids), logits(ours, ids), rtol=1e-4, atol=1e-4)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload().state_dict()
    for name, tensor in read_native(tmp_path / "merged").state.items():
        if ".wq." not in name and ".wk." not in name:
            torch.testing.assert_close(tensor, theirs[hf_name(name)], rtol=0, atol=1e-6)


def test_an_adapter_whose_params_json_is_another_models_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, tiny(LLAMA_3), facts={})
    own = json.loads((tmp_path / "base" / "params.json").read_text())
    others = {"rope_theta": 10_000.0, "use_scaled_rope": True, "norm_eps": 1e-6, "n_heads": 8, "vocab_size": 500}
    for key, value in others.items():
        (tmp_path / "adapter" / "params.json").write_text(json.dumps({**own, key: value}))
        with pytest.raises(CallamaError, match=rf"params\.json tells of a base with \w+ {value}, .*base has "):
            merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    (tmp_path / "adapter" / "params.json").write_text(json.dumps(own))
    (tmp_path / "adapter" / "MANIFEST.json").write_text(
        json.dumps({"callama": "0", "files": {"params.json": {"sha256": "0" * 64, "bytes": 1}}})
    )
    with pytest.raises(CallamaError, match=r"params\.json was changed or damaged after callama wrote it"):
        merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    (tmp_path / "adapter" / "MANIFEST.json").unlink()
    merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")


def test_the_params_json_beside_zero_to_fp32s_folder_counts(tmp_path: Path) -> None:
    model = tiny(LLAMA_3)
    prepare(tmp_path, model)
    job = tmp_path / "job"
    (job / "state").mkdir(parents=True)
    factors = {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}
    torch.save(factors, job / "state" / "pytorch_model.bin")
    settings = {"lora_rank": LORA.rank, "lora_scaling": LORA.scaling, "lora_dropout": 0.0, "train_qv_only": False}
    (job / "lora.json").write_text(json.dumps(settings))
    own = json.loads((tmp_path / "base" / "params.json").read_text())
    (job / "params.json").write_text(json.dumps({**own, "use_scaled_rope": True}))
    with pytest.raises(CallamaError, match=r"job/params\.json tells of a base with use_scaled_rope True"):
        merge_to_folder(tmp_path / "base", job / "state", tmp_path / "merged", max_changed=1)
    (job / "params.json").write_text(json.dumps(own))
    (job / "state" / "params.json").write_text(json.dumps({**own, "norm_eps": 1e-6}))
    with pytest.raises(CallamaError, match=r"state/params\.json tells of a base with norm_eps 1e-06"):
        merge_to_folder(tmp_path / "base", job / "state", tmp_path / "merged", max_changed=1)
    (job / "state" / "params.json").unlink()
    merge_to_folder(tmp_path / "base", job / "state", tmp_path / "merged", max_changed=1)


def test_a_type_that_cannot_hold_the_merge_is_no_obstacle_to_another(tmp_path: Path) -> None:
    model = tiny(LLAMA_3)
    with torch.no_grad():
        dict(model.named_parameters())["layers.0.feed_forward.w2.weight"][0, 0] = 1e5  # beyond fp16
    prepare(tmp_path, model, dtype=torch.bfloat16)
    errors = merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", max_changed=1)
    told = read_manifest(tmp_path / "merged")["merge_error"]
    assert told == {"fp32": errors["fp32"]._asdict(), "bf16": errors["bf16"]._asdict(), "fp16": None}
    with pytest.raises(CallamaError, match=r"into fp16 computes NaN or infinite logits"):
        merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "small", dtype="fp16", max_changed=1)


@torch.no_grad()
def test_trap_17_merging_into_bf16_rounds_once_from_fp32(tmp_path: Path) -> None:
    model = tiny(LLAMA_3)
    prepare(tmp_path, model, dtype=torch.bfloat16)
    merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", max_changed=1)
    merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "precise", dtype="fp32")
    base, merged = read_native(tmp_path / "base").state, read_native(tmp_path / "merged").state
    precise = read_native(tmp_path / "precise").state
    factors = dict(lora_modules(model))
    for name, tensor in base.items():
        expected: Tensor = tensor.double()
        if module := factors.get(name.removesuffix(".weight")):
            expected = expected + LORA.scaling * module.lora_b.double() @ module.lora_a.double()
        else:
            assert torch.equal(merged[name], tensor)
        assert merged[name].dtype == torch.bfloat16 and precise[name].dtype == torch.float32
        torch.testing.assert_close(precise[name].double(), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(merged[name], precise[name].bfloat16())


@pytest.mark.parametrize("out", ["base", "adapter", "base/../base", "link", "base/merged", "link/merged"])
def test_merging_onto_a_source_is_refused(tmp_path: Path, out: str) -> None:
    prepare(tmp_path, tiny(LLAMA_3))
    (tmp_path / "link").symlink_to("base")
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match="is also a source of this merge, or lies inside it"):
        merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / out)
    assert snapshot(tmp_path) == before


def test_an_adapter_trained_on_other_weights_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, tiny(LLAMA_3), facts={"base_sha256": "0123456789abcdef" * 4})
    with pytest.raises(CallamaError, match=r"adapter was trained on weights 0123456789ab…, .*base has [0-9a-f]{12}…"):
        merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, tiny(LLAMA_3))
    write_native(tmp_path / "other", LLAMA_3_2, tiny(LLAMA_3_2, tied=True).state_dict(), None, {})
    with pytest.raises(CallamaError, match=r"layers\.0\.attention\.wk has A, B of .*; another base\?"):
        merge_to_folder(tmp_path / "other", tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("shape_in", ["base", "config"])
def test_the_originals_files_merge_from_where_they_lie(tmp_path: Path, shape_in: str) -> None:
    """A .pt of factors, its lora.json in one folder, the base's weights in another; params.json beside the base or
    beside lora.json, from where the original takes it."""
    model, ids = tiny(LLAMA_3), tokens(12)
    prepare(tmp_path, model)
    factors = adapter_of(model, LORA).factors
    state = {f"{name}.lora_{x}": t for name, pair in factors.items() for x, t in zip("AB", pair, strict=True)}
    torch.save(state, tmp_path / "lora.pt")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "lora.json").write_text(
        json.dumps({"lora_rank": 4, "lora_scaling": 1.5, "train_qv_only": False})
    )
    (tmp_path / "base" / "consolidated.pth").rename(tmp_path / "elsewhere.pth")
    if shape_in != "base":
        (tmp_path / "base" / "params.json").rename(tmp_path / shape_in / "params.json")
    merge_to_folder(
        tmp_path / "base", tmp_path / "lora.pt", tmp_path / "merged",
        base_weights=tmp_path / "elsewhere.pth", config_dir=tmp_path / "config",
    )  # fmt: skip
    with torch.no_grad():
        merged = logits(build_model(read_native(tmp_path / "merged"), dtype=torch.float32), ids)
        expected = logits(model, ids)
    assert (merged - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_trap_24_a_merged_checkpoint_keeps_metas_params(tmp_path: Path) -> None:
    params = ModelParams.from_meta({**LLAMA_3_2.to_meta()}, max_seq_len=4096)
    prepare(tmp_path, tiny(params))
    merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    assert (tmp_path / "merged" / "params.json").read_bytes() == (tmp_path / "base" / "params.json").read_bytes()
    assert read_native(tmp_path / "merged").params == params


@pytest.mark.parametrize("place", ["adapter", "adapter/out", "adapter/lora.pt", "job/out", "elsewhere/lora.pt"])
def test_every_layout_of_an_adapter_knows_its_base(tmp_path: Path, place: str) -> None:
    """The folder that ``zero_to_fp32.py`` writes into a checkpoint or its job, and a file beside the manifest or with
    the settings beside it."""
    model = tiny(LLAMA_3)
    prepare(tmp_path, model, facts={"base_sha256": "0123456789abcdef" * 4})
    factors = adapter_of(model, LORA).factors
    state = {f"{name}.lora_{x}": t for name, pair in factors.items() for x, t in zip("AB", pair, strict=True)}
    path = tmp_path / place
    settings = tmp_path / "adapter" if place.startswith("elsewhere") else None
    if place.startswith("job"):
        (tmp_path / "job").mkdir()
        (tmp_path / "adapter").rename(tmp_path / "job/step_000200")
        (tmp_path / "job/latest").write_text("step_000200\n")
    if place != "adapter":
        folder = path if path.suffix == "" else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, path if path.suffix else path / "pytorch_model.bin")
        (settings or path.parent).joinpath("lora.json").write_text(
            '{"lora_rank": 4, "lora_scaling": 1.5, "train_qv_only": false}'
        )
    with pytest.raises(CallamaError, match=r"was trained on weights 0123456789ab…, .*base has [0-9a-f]{12}…"):
        merge_to_folder(tmp_path / "base", path, tmp_path / "merged", config_dir=settings)


def test_a_base_in_fp64_wants_a_dtype_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path, tiny(LLAMA_3), dtype=torch.float64)
    with pytest.raises(UsageError, match=r"base is float64; name what the merged weights shall be: --dtype fp32, bf16"):
        merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    assert "measuring" not in capsys.readouterr().err
    merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", dtype="fp32")


def test_of_a_base_in_two_types_what_is_written_is_measured(tmp_path: Path) -> None:
    """Most bytes are fp32 here, some layers bf16: that fp32 is exact says nothing about the result."""
    model = tiny(LLAMA_3)
    prepare(tmp_path, model, facts={})
    state = read_native(tmp_path / "base").state
    mixed = {name: t.bfloat16() if ".wq." in name else t for name, t in state.items()}
    write_native(tmp_path / "base", model.params, mixed, None, {})
    exact = merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "fp32", dtype="fp32")["fp32"]
    written = merge_to_folder(tmp_path / "base", tmp_path / "adapter", tmp_path / "as_is")["fp32"]
    assert read_native(tmp_path / "as_is").state["layers.0.attention.wq.weight"].dtype is torch.bfloat16
    assert written.max_logit > 100 * exact.max_logit
