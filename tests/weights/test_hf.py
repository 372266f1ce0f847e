"""Hugging Face folders: what transformers loads computes what ours does, and comes back bit for bit."""

import json
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from callama.common.errors import CallamaError, UsageError
from callama.model.attend import Documents
from callama.text.tokenizer import load_tokenizer
from callama.weights.convert import Target, convert, open_source
from callama.weights.hf import stop_ids
from callama.weights.native import build_model, read_native, write_native
from callama.weights.tokenizers import loaded_tokenizer
from tests.fetch import llama3_tokenizer_path
from tests.weights.formats import FAMILIES, SCALED, SHAPE, disown, random_state, same, snapshot, write_model

FILES = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
         "MANIFEST.json"}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_transformers_loads_the_export_and_gives_our_logits(tmp_path: Path, family: str) -> None:
    native, _ = write_model(tmp_path, family, dtype=torch.float32)
    convert(native, tmp_path / "hf", "hf")
    params = FAMILIES[family][0]
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", attn_implementation="eager")
    assert theirs.dtype == torch.float32 and theirs.config.tie_word_embeddings == FAMILIES[family][1]
    ours = build_model(read_native(native), dtype=torch.float32).eval()
    ids = torch.arange(24) * 7 % params.vocab_size
    # Beyond 8192 the scaling of RoPE decides: the same tokens again, at positions that only 3.1 and later reach.
    for first in [0, *([20_000] if params.use_scaled_rope else [])]:
        where = Documents([[24]])
        where.positions = where.positions + first
        expected = theirs.eval()(ids[None], position_ids=where.positions).logits[0]
        assert (ours.logits(ours(ids[None], where))[0] - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shard_size", [None, 100_000])
def test_the_round_trip_is_bit_identical(tmp_path: Path, family: str, shard_size: int | None) -> None:
    native, state = write_model(tmp_path, family)
    convert(native, tmp_path / "hf", "hf", shard_size=shard_size)
    before = snapshot(tmp_path / "hf")
    weights = set(before) - FILES
    assert set(before) - weights == FILES and weights >= {"model.safetensors"} if shard_size is None else True
    assert shard_size is None or ("model.safetensors.index.json" in weights and len(weights) > 3)
    convert(tmp_path / "hf", tmp_path / "back", "native")
    first, found = read_native(native), read_native(tmp_path / "back")
    assert same(found.state, state) and found.tied == first.tied
    assert found.params.ffn_dim == first.params.ffn_dim and found.params.max_seq_len == first.params.max_seq_len
    assert found.params.rope_scale_factor == first.params.rope_scale_factor
    assert load_tokenizer(tmp_path / "back").pieces == load_tokenizer(native).pieces
    assert snapshot(tmp_path / "hf") == before


def test_sharded_files_open_in_transformers(tmp_path: Path) -> None:
    native, state = write_model(tmp_path)
    convert(native, tmp_path / "hf", "hf", shard_size=100_000)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.bfloat16)
    assert torch.equal(theirs.model.embed_tokens.weight, state["tok_embeddings.weight"])
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in state.values())


def test_what_transformers_saves_is_read(tmp_path: Path) -> None:
    """Its own words for RoPE (rope_parameters), sharded by its own writer."""
    native, state = write_model(tmp_path, "Llama 3.2")
    convert(native, tmp_path / "hf", "hf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.bfloat16)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="100KB")
    AutoTokenizer.from_pretrained(tmp_path / "hf").save_pretrained(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "back", "native")
    found = read_native(tmp_path / "back")
    assert same(found.state, state) and found.tied and found.params.rope_scale_factor == 32.0
    assert load_tokenizer(tmp_path / "back").pieces == load_tokenizer(native).pieces


def test_trap_27_all_stop_ids_of_each_family_are_listed(tmp_path: Path) -> None:
    llama3 = load_tokenizer(llama3_tokenizer_path())
    assert stop_ids(llama3, SHAPE) == [128001, 128009]
    assert stop_ids(llama3, SCALED) == [128001, 128008, 128009]
    native, _ = write_model(tmp_path)
    convert(native, tmp_path / "hf", "hf")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "hf" / name).read_text())["eos_token_id"] == [0, 2]


def test_another_dtype_rounds_once(tmp_path: Path) -> None:
    native, state = write_model(tmp_path, dtype=torch.float32)
    convert(native, tmp_path / "hf", "hf", dtype="bf16")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    convert(tmp_path / "hf", tmp_path / "back", "native")
    assert same(read_native(tmp_path / "back").state, {n: t.bfloat16() for n, t in state.items()})


def change(**values: Any) -> Callable[[Path], None]:
    def damage(hf: Path) -> None:
        path = hf / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return damage


def test_a_folder_with_both_tokenizers_has_the_one_of_tokenizer_json(tmp_path: Path) -> None:
    """Many folders keep the tokenizer.model from before tokens were renamed or added."""
    native, _ = write_model(tmp_path)
    convert(native, tmp_path / "hf", "hf")
    shutil.copy(llama3_tokenizer_path(), tmp_path / "hf" / "tokenizer.model")
    targets: tuple[Target, ...] = ("native", "hf")
    for to in targets:
        convert(tmp_path / "hf", tmp_path / "again", to)
        assert not (tmp_path / "again" / "tokenizer.model").exists()
        assert load_tokenizer(tmp_path / "again").pieces == load_tokenizer(native).pieces
    (tmp_path / "hf" / "tokenizer.json").unlink()
    with pytest.raises(CallamaError, match="has 128,256 tokens, the model 400"):
        convert(tmp_path / "hf", tmp_path / "out", "native")


def test_tied_matrices_may_be_kept_in_two_types(tmp_path: Path) -> None:
    native, state = write_model(tmp_path, "Llama 3.2")
    convert(native, tmp_path / "hf", "hf")
    path = tmp_path / "hf" / "model.safetensors"
    (tmp_path / "hf" / "MANIFEST.json").unlink()
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].float()}, path)
    convert(tmp_path / "hf", tmp_path / "back", "native")
    assert same(read_native(tmp_path / "back").state, state)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].float() * 1.0001}, path)
    with pytest.raises(CallamaError, match=r"says tie_word_embeddings, but lm_head\.weight is another matrix"):
        convert(tmp_path / "hf", tmp_path / "out", "native")


def test_a_padded_vocabulary_tells_how_to_cut_it(tmp_path: Path) -> None:
    native, _ = write_model(tmp_path)
    convert(native, tmp_path / "hf", "hf")
    (tmp_path / "hf" / "MANIFEST.json").unlink()
    change(vocab_size=416)(tmp_path / "hf")
    path = tmp_path / "hf" / "model.safetensors"
    wide = {"model.embed_tokens.weight", "lm_head.weight"}
    save_file({n: F.pad(t, (0, 0, 0, 16)) if n in wide else t for n, t in load_file(path).items()}, path)
    with pytest.raises(CallamaError, match=r"has 400 tokens, the model 416: .*model\.resize_token_embeddings\(400\)"):
        convert(tmp_path / "hf", tmp_path / "out", "native")


@pytest.mark.parametrize("width", [[0], [0] * 3, "16", 16.0, True, 0, -16, 10**400])
def test_a_width_of_heads_that_is_none_is_named_before_it_is_multiplied(tmp_path: Path, width: Any) -> None:
    """A list times sixty million heads took 350 MB, and times 2^31 all memory."""
    native, _ = write_model(tmp_path)
    convert(native, tmp_path / "hf", "hf")
    change(head_dim=width, num_attention_heads=60_000_000)(tmp_path / "hf")
    tracemalloc.start()
    with pytest.raises(CallamaError, match=r"config\.json: head_dim .* times 60000000 heads is not hidden_size 128"):
        convert(tmp_path / "hf", tmp_path / "out", "native")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20


LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def test_rope_may_be_told_twice_in_the_same_words(tmp_path: Path) -> None:
    native, _ = write_model(tmp_path, "Llama 3.1")
    convert(native, tmp_path / "hf", "hf")
    change(rope_parameters={**LLAMA3_ROPE, "rope_theta": SCALED.rope_theta})(tmp_path / "hf")
    (tmp_path / "hf" / "MANIFEST.json").unlink()
    found = open_source(tmp_path / "hf").params
    assert (found.use_scaled_rope, found.rope_scale_factor, found.rope_theta) == (True, 8.0, SCALED.rope_theta)


def test_the_context_before_scaling_counts_where_transformers_reads_it(tmp_path: Path) -> None:
    native, _ = write_model(tmp_path, "Llama 3.1")
    convert(native, tmp_path / "hf", "hf")
    (tmp_path / "hf" / "MANIFEST.json").unlink()
    change(original_max_position_embeddings=8192)(tmp_path / "hf")
    assert open_source(tmp_path / "hf").params.use_scaled_rope
    change(original_max_position_embeddings=4096)(tmp_path / "hf")
    with pytest.raises(CallamaError, match=r"config\.json: RoPE is scaled by 'llama3'; .*Llama 3\.1's scaling only"):
        open_source(tmp_path / "hf")


def test_a_tokenizer_that_leaves_ids_out_cannot_be_one_of_hugging_face(tmp_path: Path) -> None:
    native, _ = write_model(tmp_path)
    spec = json.loads((native / "tokenizer.json").read_text())
    spec["added_tokens"].append({**spec["added_tokens"][0], "content": "<|late|>", "id": 403})
    params = replace(SHAPE, vocab_size=404)
    write_native(tmp_path / "odd", params, random_state(params, tied=False), spec, {})
    tokenizer = loaded_tokenizer(open_source(tmp_path / "odd"))
    assert tokenizer is not None and tokenizer.special("<|late|>") == 403
    with pytest.raises(CallamaError, match=r"'<\|late\|>' has 403, and Hugging Face's library would give it 400"):
        convert(tmp_path / "odd", tmp_path / "hf", "hf")
    assert not (tmp_path / "hf").exists()
    # Nor can such a folder be read: its model has seen the ids that the library gave.
    convert(native, tmp_path / "hf", "hf")
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(spec))
    disown(tmp_path / "hf" / "tokenizer.json")
    with pytest.raises(CallamaError, match=r"'<\|late\|>' has 403, .* give it 400; .*put its ids into the file"):
        convert(tmp_path / "hf", tmp_path / "back", "native")


@pytest.mark.parametrize("field", ["truncation", "padding"])
def test_a_tokenizer_that_hugging_faces_library_does_not_read_is_refused(tmp_path: Path, field: str) -> None:
    native, _ = write_model(tmp_path)
    spec = json.loads((native / "tokenizer.json").read_text())
    (native / "tokenizer.json").write_text(json.dumps({**spec, field: {"direction": "Up"}}))
    disown(native / "tokenizer.json")
    with pytest.raises(CallamaError, match=r"Hugging Face's library does not read the tokenizer of .*native"):
        convert(native, tmp_path / "hf", "hf")


def cut(hf: Path) -> None:
    path = hf / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def header(hf: Path) -> None:
    path = hf / "model.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def other_tokenizer(hf: Path) -> None:
    path = hf / "tokenizer.json"
    spec = json.loads(path.read_text())
    spec["added_tokens"].append({**spec["added_tokens"][0], "content": "<|new|>", "id": 400})
    path.write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(model_type="qwen2"), "model_type is 'qwen2'; callama reads 'llama'"),
        (change(attention_bias=True), "attention_bias is True; callama's Llama has False"),
        (change(rope_scaling={"rope_type": "yarn", "factor": 4.0}), "RoPE is scaled by 'yarn'"),
        (change(rope_scaling=LLAMA3_ROPE, rope_parameters={"rope_type": "default"}), "rope_parameters disagree"),
        (change(rope_scaling=LLAMA3_ROPE, rope_parameters={"rope_theta": 123.0}), "rope_parameters disagree"),
        (change(head_dim=99), "head_dim 99 times 8 heads is not hidden_size 128"),
        (change(num_hidden_layers=1), r"tensor model\.layers\.1\.\S+ is not part of a Llama model of 1 layers"),
        (change(num_hidden_layers=3), r"lacks tensor layers\.2"),
        (change(vocab_size=401), r"has shape \(400, 128\), but .*config\.json asks for \(401, 128\)"),
        (cut, r"model\.safetensors is cut short"),
        (header, "no safetensors header"),
        (lambda hf: (hf / "model.safetensors").unlink(), "does not exist; expected a safetensors file"),
        (other_tokenizer, "has 401 tokens, the model 400: this tokenizer belongs to another model"),
    ],
)
def test_a_folder_that_does_not_fit_together_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    native, _ = write_model(tmp_path)
    convert(native, tmp_path / "hf", "hf")
    damage(tmp_path / "hf")
    before = snapshot(tmp_path)
    with pytest.raises(CallamaError, match=message):
        convert(tmp_path / "hf", tmp_path / "out", "native")
    assert snapshot(tmp_path) == before


def test_the_source_is_never_the_destination(tmp_path: Path) -> None:
    native, _ = write_model(tmp_path)
    for out in (native, native / "hf"):
        with pytest.raises(UsageError, match="is also the source, or lies inside it"):
            convert(native, out, "hf")
