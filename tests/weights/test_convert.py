"""Conversions end to end: kinds are seen, GGUF and PEFT hold, what is interrupted leaves nothing."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from callama.common import files
from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest
from callama.common.verify import verify_folder
from callama.model.attend import Documents
from callama.model.lora import LoRAParams, add_lora, lora_modules
from callama.weights import lazy, merge
from callama.weights.adapter import adapter_of, load_adapter, read_adapter, save_adapter
from callama.weights.budget import MergeError
from callama.weights.convert import convert, open_source
from callama.weights.lazy import Lazy, by_head, joined, of_tensor, permute_rows, same_numbers
from callama.weights.merge import merge_to_folder
from callama.weights.native import build_model, read_native
from callama.weights.pth import open_pth, save_pth
from tests.weights.formats import FAMILIES, SHAPE, disown, same, snapshot, write_model

LORA = LoRAParams(rank=4, scaling=2.0)


@given(rows=st.integers(1, 40), parts=st.integers(1, 4), dim=st.integers(0, 1), block_rows=st.integers(1, 50))
def test_blocks_of_any_size_make_up_the_same_tensor(rows: int, parts: int, dim: int, block_rows: int) -> None:
    pieces = [torch.randn(rows * 4, 6) for _ in range(parts)]
    whole = joined([of_tensor(p) for p in pieces], dim)
    expected = torch.cat(pieces, dim)
    permuted = by_head(whole, 4, permute_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy, "BLOCK_BYTES", block_rows * 4 * whole.shape[1])
        assert torch.equal(torch.cat(list(whole.blocks())), expected)
        heads = expected.shape[0] // 4
        assert torch.equal(torch.cat(list(permuted.blocks())), permute_rows(expected, heads))
        assert same_numbers(whole, of_tensor(expected)) and not same_numbers(whole, of_tensor(expected + 1))


def test_the_writer_writes_what_torch_reads_and_reads_what_torch_writes(tmp_path: Path) -> None:
    state = {
        "a": torch.randn(7, 3), "b": torch.randn(5).bfloat16(), "c": torch.randn(2, 2).half(),
        "d": torch.ones(1).double(),
    }  # fmt: skip
    found = save_pth(tmp_path / "ours.pth", {n: of_tensor(t) for n, t in state.items()})
    assert found.sha256 == files.sha256_file(tmp_path / "ours.pth")
    for how in ({}, {"mmap": True}):
        assert same(torch.load(tmp_path / "ours.pth", weights_only=True, **how), state)
    torch.save(state, tmp_path / "theirs.pth")
    assert same(open_pth(tmp_path / "theirs.pth"), state) and same(open_pth(tmp_path / "ours.pth"), state)
    views = {"rows": state["a"][2:5], "parameter": torch.nn.Parameter(state["a"])}
    torch.save(views, tmp_path / "views.pth")
    assert same(open_pth(tmp_path / "views.pth"), views)
    torch.save({"columns": state["a"].t()}, tmp_path / "strided.pth")
    with pytest.raises(CallamaError, match="is a view with strides"):
        open_pth(tmp_path / "strided.pth")


def test_trap_28_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "it ran",)

    native, _ = write_model(tmp_path)
    disown(native / "consolidated.pth")
    torch.save({"a": torch.ones(1), "code": Touch()}, native / "consolidated.pth")
    with pytest.raises(CallamaError, match=r"consolidated\.pth cannot be read as a checkpoint .*: it refers to"):
        convert(native, tmp_path / "out", "hf")
    assert not (tmp_path / "it ran").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_reads_back_bit_for_bit(tmp_path: Path, family: str, dtype: str) -> None:
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    native, state = write_model(tmp_path, family, dtype=kind)
    convert(native, tmp_path / "model.gguf", "gguf")
    convert(tmp_path / "model.gguf", tmp_path / "back", "native")
    found, params = read_native(tmp_path / "back"), FAMILIES[family][0]
    assert same(found.state, state) and found.params.rope_scale_factor == params.rope_scale_factor
    assert found.params.max_seq_len == params.max_seq_len and found.params.ffn_dim == params.ffn_dim
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert "namespace functions" in fields["tokenizer.chat_template"].contents()
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 2


@pytest.mark.parametrize(("source", "target"), [("hf", "meta"), ("meta", "hf"), ("gguf", "hf"), ("gguf", "meta")])
def test_every_kind_of_source_is_seen(tmp_path: Path, source: str, target: str) -> None:
    native, state = write_model(tmp_path)
    convert(native, tmp_path / "first.gguf", source)  # type: ignore[arg-type]
    convert(tmp_path / "first.gguf", tmp_path / "second", target)  # type: ignore[arg-type]
    assert same(open_source(tmp_path / "second").tensors, state)
    manifest = read_manifest(tmp_path / "second")
    assert manifest["source"] == "first.gguf" and manifest["dtype"] == "bf16" and manifest["dialect"] == "tool_uses"
    assert verify_folder(tmp_path / "second").extra == []


def adapter_folder(root: Path, *, rank: int = 4) -> Path:
    native, _ = write_model(root, dtype=torch.float32)
    lora = LoRAParams(rank, LORA.scaling)
    model = add_lora(build_model(read_native(native), dtype=torch.float32), lora)
    torch.manual_seed(6)
    for _, module in lora_modules(model):
        torch.nn.init.normal_(module.lora_b, std=0.05)
    with files.atomic_folder(root / "adapter", {"base_sha256": files.sha256_file(native / "consolidated.pth")}) as out:
        save_adapter(out, adapter_of(model, lora), SHAPE, "some-base")
        (out / "params.json").write_text((native / "params.json").read_text())
    return root / "adapter"


@torch.no_grad()
def test_peft_loads_the_exported_adapter_on_the_exported_base_and_gives_our_logits(tmp_path: Path) -> None:
    adapter = adapter_folder(tmp_path)
    convert(tmp_path / "native", tmp_path / "hf", "hf")
    convert(adapter, tmp_path / "peft", "peft")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "hf"), tmp_path / "peft").eval()
    ours = add_lora(build_model(read_native(tmp_path / "native"), dtype=torch.float32), LORA).eval()
    load_adapter(ours, read_adapter(adapter, SHAPE))
    ids = torch.arange(24) * 7 % SHAPE.vocab_size
    found = ours.logits(ours(ids[None], Documents([[24]])))[0]
    assert (found - theirs(ids[None]).logits[0]).abs().max() <= 1e-4
    assert snapshot(tmp_path / "peft").keys() == {
        "adapter_config.json", "adapter_model.safetensors", "params.json", "MANIFEST.json",
    }  # fmt: skip
    first, second = (read_adapter(path, SHAPE).factors for path in (adapter, tmp_path / "peft"))
    assert all(torch.equal(x, y) for name in first for x, y in zip(first[name], second[name], strict=True))


def test_trap_31_a_rank_that_vllm_cannot_serve_is_refused(tmp_path: Path) -> None:
    adapter = adapter_folder(tmp_path, rank=513)
    with pytest.raises(CallamaError, match="has rank 513; vLLM serves at most 512"):
        convert(adapter, tmp_path / "peft", "peft")


@pytest.mark.parametrize("how", ["whole", "sharded", "safetensors"])
def test_the_folder_that_zero_to_fp32_writes_merges_like_the_adapter(tmp_path: Path, how: str) -> None:
    """Its second argument is a folder today, whatever the README of old calls it."""
    adapter = adapter_folder(tmp_path)
    factors = read_adapter(adapter, SHAPE).factors
    state = {f"{n}.lora_{x}": t for n, pair in factors.items() for x, t in zip("ab", pair, strict=True)}
    folder = tmp_path / "converted" / "lora_state_consolidated.pt"
    folder.mkdir(parents=True)
    (folder.parent / "lora.json").write_text(json.dumps({"lora_rank": 4, "lora_scaling": 2.0, "train_qv_only": False}))
    if how == "safetensors":
        save_file(state, folder / "model.safetensors")
    elif how == "whole":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
        places = {key: names[i % 2] for i, key in enumerate(state)}
        for name in names:
            torch.save({k: t for k, t in state.items() if places[k] == name}, folder / name)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    merge_to_folder(tmp_path / "native", adapter, tmp_path / "one")
    merge_to_folder(tmp_path / "native", folder, tmp_path / "two", config_dir=folder.parent)
    assert same(read_native(tmp_path / "two").state, read_native(tmp_path / "one").state)


def test_a_merge_reports_its_error_for_each_dtype_and_refuses_too_much_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapter_folder(tmp_path)
    errors = merge_to_folder(tmp_path / "native", adapter, tmp_path / "merged")
    assert list(errors) == ["fp32", "bf16", "fp16"]
    assert errors["fp32"].max_logit < 1e-4 < errors["fp16"].max_logit < errors["bf16"].max_logit
    assert errors["bf16"].mean_logit < errors["bf16"].max_logit and errors["fp32"].changed_tokens == 0
    assert read_manifest(tmp_path / "merged")["merge_error"]["bf16"] == errors["bf16"]._asdict()
    bad = {name: MergeError(3.0, 0.5, 0.25, 100) for name in errors}
    monkeypatch.setattr(merge, "measure", lambda *_: bad)
    with pytest.raises(CallamaError, match=r"into bf16 changes 25\.0% of the greedy .* \(at most 5\.0% is allowed"):
        merge_to_folder(tmp_path / "native", adapter, tmp_path / "other", dtype="bf16")
    assert not (tmp_path / "other").exists()
    merge_to_folder(tmp_path / "native", adapter, tmp_path / "other", dtype="bf16", max_changed=0.3)


@torch.no_grad()
def test_the_merges_error_is_that_of_the_two_models_themselves(tmp_path: Path) -> None:
    """The streamed measurement against whole models, built from base and adapter and from the merged file."""
    adapter = adapter_folder(tmp_path)
    errors = merge_to_folder(tmp_path / "native", adapter, tmp_path / "merged", dtype="bf16", max_changed=1)
    from callama.weights.budget import probe_ids
    from callama.weights.native import open_native

    reference = add_lora(build_model(read_native(tmp_path / "native"), dtype=torch.float32), LORA).eval()
    load_adapter(reference, read_adapter(adapter, SHAPE))
    changed = build_model(read_native(tmp_path / "merged"), dtype=torch.float32).eval()
    original = read_native(tmp_path / "native").state
    for name, parameter in changed.named_parameters():
        if name.endswith("norm.weight"):
            parameter.copy_(original[name])
    documents = probe_ids(open_native(tmp_path / "native"))
    ids = torch.tensor([token for document in documents for token in document])
    where = Documents([[len(document)] for document in documents])
    first, second = (m.logits(m(ids[None], where))[0] for m in (reference, changed))
    assert errors["bf16"].max_logit == pytest.approx(float((first - second).abs().max()), rel=1e-2)
    assert errors["bf16"].mean_logit == pytest.approx(float((first - second).abs().mean()), rel=1e-2)
    share = float((first.argmax(1) != second.argmax(1)).float().mean())
    assert errors["bf16"].changed_tokens == pytest.approx(share, abs=2 / len(ids))


@pytest.mark.parametrize("target", ["native", "hf", "meta", "gguf"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_an_interruption_or_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, stop: BaseException | type[BaseException]
) -> None:
    native, _ = write_model(tmp_path)
    before = snapshot(tmp_path)
    real, seen = Lazy.blocks, 0

    def breaks(tensor: Lazy) -> Any:
        nonlocal seen
        if (seen := seen + 1) == 6:
            raise stop
        return real(tensor)

    monkeypatch.setattr(Lazy, "blocks", breaks)
    with pytest.raises(
        (KeyboardInterrupt, CallamaError), match="the disk is full" if stop is not KeyboardInterrupt else ""
    ):
        convert(native, tmp_path / ("out.gguf" if target == "gguf" else "out"), target)  # type: ignore[arg-type]
    assert seen >= 6 and snapshot(tmp_path) == before
    assert not any(p.name.endswith(".tmp") for p in tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["peft", "checkpoint", "job", "original"])
def test_an_adapter_where_a_model_is_wanted_is_named_as_such(tmp_path: Path, kind: str) -> None:
    """A checkpoint of a run has settings under the name of Hugging Face's config.json."""
    folder, native = adapter_folder(tmp_path), tmp_path / "native"
    if kind == "checkpoint":
        (folder / "config.json").write_text("{}")
    elif kind == "job":
        (tmp_path / "latest").write_text("adapter\n")
        folder = tmp_path
    elif kind == "original":
        (tmp_path / "lora").mkdir()
        (tmp_path / "lora" / "lora.json").write_text("{}")
        (tmp_path / "lora" / "lora_state.pth").write_text("")
        folder = tmp_path / "lora"
    for wants in (read_native, lambda path: merge_to_folder(path, native, tmp_path.parent / "none")):
        with pytest.raises(UsageError, match=f"^{folder} is an adapter, and a model is wanted .*BASE {folder} OUT"):
            wants(folder)


def test_an_adapters_settings_beside_a_model_make_no_adapter(tmp_path: Path) -> None:
    for name in ("config.json", "adapter_config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="make it one: callama convert"):
        read_native(tmp_path)


@pytest.mark.parametrize(
    ("source", "how", "message"),
    [
        ("native", {"to": "peft"}, "is no adapter; --to peft takes a checkpoint of a run"),
        ("adapter", {"to": "hf"}, "is an adapter: it goes --to peft, or into its base with callama merge"),
        ("nothing", {"to": "hf"}, "nothing does not exist; expected a model or an adapter"),
        ("tokenizer.json", {"to": "hf"}, "is neither a folder nor a .gguf file"),
        ("empty", {"to": "hf"}, "is no model that callama knows: expected params.json"),
        ("native", {"to": "hf", "dtype": "int3"}, "--dtype must be one of fp32, bf16, fp16, found 'int3'"),
        ("native", {"to": "meta", "shard_size": 5}, "--shard-size is for --to hf"),
    ],
)
def test_what_does_not_go_together_is_wrong_use(tmp_path: Path, source: str, how: Any, message: str) -> None:
    adapter_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        convert(tmp_path / source, tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_verify_names_what_is_missing_or_changed(tmp_path: Path) -> None:
    native, _ = write_model(tmp_path)
    assert verify_folder(native).files == 3
    (native / "notes.txt").write_text("mine")
    assert verify_folder(native).extra == ["notes.txt"]
    data = (native / "consolidated.pth").read_bytes()
    (native / "consolidated.pth").write_bytes(data[:-1] + b"?")
    (native / "params.json").unlink()
    with pytest.raises(CallamaError, match=r"params\.json is missing") as caught:
        verify_folder(native)
    assert "consolidated.pth has other content" in str(caught.value)
    with pytest.raises(UsageError, match=r"has no MANIFEST\.json"):
        verify_folder(tmp_path)
