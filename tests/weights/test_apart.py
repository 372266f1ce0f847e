"""What is written touches no source and no stranger's file, and says what it could not carry over."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, sha256_file
from callama.weights.convert import convert, open_source
from callama.weights.merge import merge_to_folder
from callama.weights.meta import open_meta, write_meta
from callama.weights.native import open_native
from callama.weights.shards import consolidate, load_shard
from tests import tiny
from tests.weights.conftest import PARAMS
from tests.weights.formats import random_state, snapshot, write_model


@pytest.fixture
def native(tmp_path: Path) -> Path:
    return write_model(tmp_path, "Llama 3.1")[0]


@pytest.mark.parametrize("place", ["", "meta"])
def test_shards_do_not_replace_or_enter_their_source(native: Path, place: str) -> None:
    before = snapshot(native)
    with pytest.raises(UsageError, match="is also the source, or lies inside it"):
        write_meta(native / place, open_native(native), 2)
    assert snapshot(native) == before


@pytest.mark.parametrize("place", ["step_000002", "step_000002/adapter", "."])
def test_consolidating_does_not_replace_or_enter_its_checkpoint(tmp_path: Path, place: str) -> None:
    (job := tmp_path / "job", step := tmp_path / "job/step_000002")
    step.mkdir(parents=True)
    (job / "latest").write_text("step_000002")
    for source in (job, step):
        with pytest.raises(UsageError, match="is also the source, or lies inside it"):
            consolidate(source, job / place)


def test_an_adapter_file_of_callamas_own_folder_keeps_it_as_it_is(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "peft", tmp_path / "peft")
    with pytest.raises(UsageError, match="is also a source of this merge"):
        merge_to_folder(whole / "native", tmp_path / "peft", tmp_path / "peft/merged")


def test_no_folder_that_is_read_is_replaced(whole: Path, native: Path, tmp_path: Path) -> None:
    """That of --config-dir, and what a job's ``latest`` names outside of the job."""
    shutil.copytree(whole / "peft", tmp_path / "far")
    for job in ("adapters", "models"):
        (tmp_path / job).mkdir()
        (tmp_path / job / "latest").write_text("../far" if job == "adapters" else "../native")
    with atomic_folder(tmp_path / "step", {}) as step:
        shutil.copytree(whole / "original", step, dirs_exist_ok=True)
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match="step is also a source of this merge"):
        merge_to_folder(native, whole / "original/lora.pt", tmp_path / "step", config_dir=tmp_path / "step")
    with pytest.raises(UsageError, match="far is also the source"):
        convert(tmp_path / "adapters", tmp_path / "far", "peft")
    with pytest.raises(UsageError, match="far is also a source of this merge"):
        merge_to_folder(native, tmp_path / "adapters", tmp_path / "far")
    for to in ("native", "hf", "meta"):
        with pytest.raises(UsageError, match="native is also the source"):
            convert(tmp_path / "models", native, to)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="native is also a source of this merge"):
        merge_to_folder(tmp_path / "models", tmp_path / "far", native)
    assert snapshot(tmp_path) == before


def test_a_gguf_file_is_replaced_only_where_callama_wrote_it(native: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("a user's own")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    before = sha256_file(path)
    with pytest.raises(UsageError, match="is no GGUF file of callama's"):
        convert(native, path, "gguf")
    assert sha256_file(path) == before
    path.unlink()
    convert(native, path, "gguf")
    convert(native, path, "gguf", dtype="fp32")
    with pytest.raises(UsageError, match=r"must be named FILE\.gguf"):
        convert(native, tmp_path / "model.bin", "gguf")


def test_numbers_that_fp16_cannot_hold_are_refused(native: Path, whole: Path, tmp_path: Path) -> None:
    state = torch.load(native / "consolidated.pth", weights_only=True)
    state["norm.weight"][0] = 7e5
    torch.save(state, native / "consolidated.pth")
    (native / "MANIFEST.json").unlink()
    for to in ("native", "hf", "meta"):
        with pytest.raises(CallamaError, match=r"norm\.weight has numbers beyond 65,504.*--dtype bf16"):
            convert(native, tmp_path / "out", to, dtype="fp16")
    with pytest.raises(CallamaError, match=r"norm\.weight has numbers beyond 65,504"):
        merge_to_folder(native, whole / "original/lora.pt", tmp_path / "out", dtype="fp16", max_changed=1)
    assert not (tmp_path / "out").exists()
    convert(native, tmp_path / "out", "native", dtype="bf16")


@pytest.mark.parametrize(
    ("dtype", "value", "to", "said"),
    [
        (torch.float64, 1e39, "fp32", r"3\.40e38, the largest of fp32: take the type that they have, without --dtype"),
        (torch.float64, 1e39, "bf16", r"3\.39e38, the largest of bf16: take --dtype fp32"),
        (torch.float32, 3.4e38, "bf16", r"3\.39e38, the largest of bf16: take --dtype fp32"),
        (torch.float32, -65_520, "fp16", "65,504, the largest of fp16: take --dtype bf16 or fp32"),
    ],
)
def test_rounding_never_makes_infinity(
    native: Path, tmp_path: Path, dtype: torch.dtype, value: float, to: str, said: str
) -> None:
    state = {n: t.to(dtype) for n, t in torch.load(native / "consolidated.pth", weights_only=True).items()}
    state["layers.1.feed_forward.w2.weight"][3, 5] = value
    torch.save(state, native / "consolidated.pth")
    (native / "MANIFEST.json").unlink()
    for target in ("native", "hf", "meta"):
        with pytest.raises(CallamaError, match=rf"w2\.weight has numbers beyond {said}"):
            convert(native, tmp_path / "out", target, dtype=to)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_merge_with_nan_says_so(native: Path, whole: Path, tmp_path: Path) -> None:
    state = torch.load(native / "consolidated.pth", weights_only=True)
    state["layers.0.attention.wq.weight"][0] = torch.nan
    torch.save(state, native / "consolidated.pth")
    (native / "MANIFEST.json").unlink()
    with pytest.raises(CallamaError, match=r"consolidated\.pth: layers\.0\.attention\.wq\.weight holds 128 NaN or inf"):
        merge_to_folder(native, whole / "original/lora.pt", tmp_path / "out")


def test_a_base_that_its_manifest_does_not_tell_of_is_refused(native: Path, whole: Path, tmp_path: Path) -> None:
    torch.save(random_state(PARAMS, tied=False, dtype=torch.float32), native / "consolidated.pth")
    with pytest.raises(CallamaError, match=r"consolidated\.pth was changed or damaged after callama wrote it"):
        merge_to_folder(native, whole / "peft", tmp_path / "out")


@pytest.mark.parametrize("kind", ["meta", "hf", "model.gguf"])
def test_merging_into_another_format_says_what_to_do(whole: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=r"make it one: callama convert .* --to native"):
        merge_to_folder(whole / kind, whole / "peft", tmp_path / "out")


def test_a_gguf_file_of_another_byte_order_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "big.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_context_length(128)
    writer.add_tensor("token_embd.weight", np.ones((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CallamaError, match="another byte order"):
        open_source(tmp_path / "big.gguf")


def test_shards_with_nan_norms_or_the_same_part_twice_are_refused(native: Path, tmp_path: Path) -> None:
    write_meta(tmp_path / "meta", open_native(native), 2)
    second = tmp_path / "meta/consolidated.01.pth"
    state = torch.load(second, weights_only=True)
    state["norm.weight"][:] = torch.nan
    torch.save(state, second)
    (tmp_path / "meta/MANIFEST.json").unlink()
    with pytest.raises(CallamaError, match=r"consolidated\.01\.pth: norm\.weight holds 128 NaN or infinite numbers"):
        open_meta(tmp_path / "meta")
    shutil.copy(tmp_path / "meta/consolidated.00.pth", second)
    with pytest.raises(CallamaError, match="same part of the model"):
        open_meta(tmp_path / "meta")


def test_shards_want_the_models_own_tokenizer(native: Path, tmp_path: Path) -> None:
    tiny.write_tokenizer(native / "tokenizer.json", PARAMS.vocab_size - 7)
    with pytest.raises(CallamaError, match="belongs to another model"):
        write_meta(tmp_path / "meta", open_native(native), 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediate_size": 384.5}, "intermediate_size must be a whole number"),
        ({"intermediate_size": "384"}, "intermediate_size must be a whole number"),
        (
            {"hidden_size": 10**12, "head_dim": 125 * 10**9},
            "hidden_size must be a whole number above zero, at most 2.31",
        ),
        ({"hidden_size": 2**25, "head_dim": 2**22}, "dim must be at most 16,777,216"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"max_position_embeddings": 2**40}, r"max_position_embeddings must be .* at most 2\^31, found 1099511627776"),
        ({"max_position_embeddings": None}, "max_position_embeddings must be a whole number above zero"),
        ({"rope_theta": 10**400}, "rope_theta must be a number above zero"),
        ({"rope_theta": None}, "rope_theta must be a number above zero, found None"),
        ({"rms_norm_eps": 10**400}, "norm_eps must be a number above zero"),
        ({"hidden_size": 10**400}, "hidden_size must be a whole number above zero, at most 2.31"),
        ({"head_dim": 10**400}, "head_dim 1000"),
        ({"mlp_bias": 10**400}, "mlp_bias is 1000"),
        *[
            ({"rope_scaling": {"factor": f}}, "scaling factor must be a number from 1 to")
            for f in (0, -8, 0.5, float("nan"), float("inf"), 2**40, 10**400, "8", None)
        ],
    ],
)
def test_impossible_settings_of_a_hugging_face_folder(
    whole: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copytree(whole / "hf", tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    scaling = {**config["rope_scaling"], **changes.get("rope_scaling", {})}
    (tmp_path / "hf/config.json").write_text(json.dumps({**config, **changes, "rope_scaling": scaling}))
    with pytest.raises(CallamaError, match=message) as said:
        open_source(tmp_path / "hf")
    assert "config.json" in str(said.value) and len(str(said.value)) < 400


def test_a_peft_folder_is_a_source_again(whole: Path, tmp_path: Path) -> None:
    convert(whole / "original/lora.pt", tmp_path / "one", "peft")
    convert(tmp_path / "one", tmp_path / "two", "peft")
    one, two = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_an_adapter_larger_than_files_may_be_is_one_message(whole: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, before[1]))
    try:
        with pytest.raises(CallamaError, match=r"out is larger than files may be here \(ulimit -f"):
            convert(whole / "peft", tmp_path / "out", "peft")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_consolidated_adapter_says_what_it_is(whole: Path, tmp_path: Path) -> None:
    """One process of ZeRO 2, in DeepSpeed's layout."""
    job = tmp_path / "job"
    shutil.copytree(whole / "original", job)
    state = torch.load(job / "lora.pt", weights_only=True)
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    optimizer = {"zero_stage": 2, "partition_count": 1, "single_partition_of_fp32_groups": [flat]}
    torch.save({"optimizer_state_dict": optimizer}, job / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    shapes = {f"module.{name}": tensor.shape for name, tensor in state.items()}
    torch.save({"param_shapes": [shapes]}, job / "mp_rank_00_model_states.pt")
    consolidate(job, tmp_path / "out")
    facts = json.loads((tmp_path / "out/MANIFEST.json").read_text())
    assert (facts["dtype"], facts["dialect"], facts["source"]) == ("fp32", "tool_uses", "job")
    convert(whole / "original", tmp_path / "expected", "peft")
    one, two = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("out", "expected"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_model_without_tokenizer_is_told_of(native: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (native / "tokenizer.json").unlink()
    convert(native, tmp_path / "hf", "hf")
    assert "has no tokenizer, so neither has" in capsys.readouterr().err


def test_a_flipped_bit_in_a_part_of_deepspeed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save({"numbers": torch.arange(1000.0)}, path)
    assert load_shard(path)["numbers"][7] == 7
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CallamaError, match=r"optim_states\.pt.*does not have the checksum"):
        load_shard(path)
    path.write_bytes(content[:1000])
    with pytest.raises(CallamaError, match=r"optim_states\.pt"):
        load_shard(path)
