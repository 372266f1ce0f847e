"""One model through every format and back: whatever its shape, not a bit is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from callama.common.errors import UsageError
from callama.contract.messages import Conversation
from callama.generate.engine import Generator
from callama.model.params import ModelParams
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer
from callama.weights.convert import convert, open_source
from callama.weights.meta import SHARD_COUNTS, check_divisible, write_meta
from callama.weights.native import build_model, open_native, read_native, write_native
from callama.weights.source import DTYPES
from tests import tiny
from tests.fetch import embedded_model_dir, llama3_tokenizer_path
from tests.weights.formats import random_state, same, write_model

TARGETS = ("native", "hf", "meta", "gguf")


@st.composite
def shapes(draw: st.DrawFn) -> tuple[ModelParams, bool]:
    kv_heads, group = draw(st.sampled_from([1, 2, 3, 8])), draw(st.sampled_from([1, 2, 4]))
    scaled = draw(st.booleans())
    head_dim = draw(st.sampled_from([4, 8, 16]))
    params = ModelParams(
        dim=kv_heads * group * head_dim, n_layers=draw(st.integers(1, 2)), n_heads=kv_heads * group,
        n_kv_heads=draw(st.sampled_from([kv_heads, None])) if group == 1 else kv_heads,
        vocab_size=draw(st.integers(300, 310)), multiple_of=draw(st.sampled_from([8, 24, 64])),
        ffn_dim_multiplier=draw(st.sampled_from([None, 1.3])),
        norm_eps=draw(st.sampled_from([1e-5, 1e-6, 1.5e-10, 1 / 3e5])),
        rope_theta=500_000.0 if scaled else draw(st.sampled_from([10_000.0, 1_234_567.8912345])),
        use_scaled_rope=scaled, rope_scale_factor=draw(st.sampled_from([8.0, 32.0, 3.14159265])) if scaled else 8.0,
        max_seq_len=draw(st.sampled_from([512, 8192, 131_072])),
    )  # fmt: skip
    return params, draw(st.booleans())


def essence(params: ModelParams) -> tuple[object, ...]:
    """What a model computes with; the two keys that make up the hidden width may be said in another way."""
    return (replace(params, multiple_of=1, ffn_dim_multiplier=None, n_kv_heads=params.kv_heads), params.ffn_dim)


@settings(max_examples=15)
@given(shape=shapes(), dtype=st.sampled_from([*DTYPES.values()]), order=st.permutations(TARGETS), data=st.data())
def test_any_model_survives_any_chain_of_formats(
    shape: tuple[ModelParams, bool], dtype: torch.dtype, order: list[str], data: st.DataObject
) -> None:
    params, tied = shape
    state = random_state(params, tied=tied, dtype=dtype)
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        tiny.write_tokenizer(root / "tokenizer.json", params.vocab_size)
        write_native(root / "first", params, state, root / "tokenizer.json", {})
        place = root / "first"
        for i, to in enumerate([*order, "native"]):
            size = data.draw(st.sampled_from([1, 9_999, 50_000, None])) if to == "hf" else None
            out = root / (f"{i}.gguf" if to == "gguf" else str(i))
            convert(place, out, to, shard_size=size)  # type: ignore[arg-type]
            place = out
        found = read_native(place)
        assert same(found.state, state) and found.tied == tied and essence(found.params) == essence(params)
        assert load_tokenizer(place).pieces == load_tokenizer(root / "tokenizer.json").pieces


@settings(max_examples=25)
@given(shape=shapes(), count=st.sampled_from(SHARD_COUNTS))
def test_shards_of_any_model_join_to_it_or_are_not_made(shape: tuple[ModelParams, bool], count: int) -> None:
    params, tied = shape
    state = random_state(params, tied=tied)
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_native(root / "native", params, state, None, {})
        try:
            check_divisible(params, count)
        except UsageError:
            with pytest.raises(UsageError, match=f"{count} shards are not possible: .*, which {count} does not divide"):
                write_meta(root / "meta", open_native(root / "native"), count)
            assert not (root / "meta").exists()
            return
        write_meta(root / "meta", open_native(root / "native"), count)
        assert same(open_source(root / "meta").tensors, state)


def test_a_model_built_like_70b_goes_to_eight_shards_and_back(tmp_path: Path) -> None:
    """64 heads on 8 of keys, a feed-forward of 1.3 times the formula, and more rows than a shard has."""
    params = ModelParams(512, 2, 64, 1000, 8, 64, 1.3, use_scaled_rope=True, max_seq_len=131_072)
    state = random_state(params, tied=False)
    write_native(tmp_path / "native", params, state, None, {})
    write_meta(tmp_path / "meta", open_native(tmp_path / "native"), 8)
    first = torch.load(tmp_path / "meta/consolidated.00.pth", weights_only=True)
    assert first["tok_embeddings.weight"].shape == (125, 512) and first["layers.0.attention.wk.weight"].shape == (
        8,
        512,
    )
    convert(tmp_path / "meta", tmp_path / "back", "native")
    assert same(read_native(tmp_path / "back").state, state)
    assert read_native(tmp_path / "back").params == params


def test_llama_3_3_is_llama_3_1s_shape_from_metas_params_on(tmp_path: Path) -> None:
    """What Meta ships as Llama-3.3-70B-Instruct says of itself; the release changed weights, not the shape."""
    meta = {
        "dim": 8192, "ffn_dim_multiplier": 1.3, "multiple_of": 4096, "n_heads": 64, "n_kv_heads": 8, "n_layers": 80,
        "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": True, "vocab_size": 128256,
    }  # fmt: skip
    params = ModelParams.from_meta(meta)
    assert (params.ffn_dim, params.rope_scale_factor, params.max_seq_len) == (28_672, 8.0, 131_072)
    check_divisible(params, 8)
    # The same keys, narrower, as eight shards of a folder as Meta ships it, to what transformers wants to know.
    small = {**meta, "dim": 128, "multiple_of": 32, "n_heads": 16, "n_layers": 2}
    state = random_state(ModelParams.from_meta(small), tied=False)
    write_native(tmp_path / "native", ModelParams.from_meta(small), state, llama3_tokenizer_path(), {})
    write_meta(tmp_path / "meta", open_native(tmp_path / "native"), 8)
    (tmp_path / "meta" / "MANIFEST.json").unlink()
    (tmp_path / "meta" / "params.json").write_text(json.dumps(small))
    convert(tmp_path / "meta", tmp_path / "hf", "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["rope_scaling"] == {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    assert config["max_position_embeddings"] == 131_072 and config["tie_word_embeddings"] is False
    assert config["eos_token_id"] == [128001, 128008, 128009]
    assert same(open_source(tmp_path / "hf").tensors, state)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("to", TARGETS)
def test_every_target_is_written_in_the_dtype_that_was_asked_for(tmp_path: Path, to: str, dtype: str) -> None:
    native, state = write_model(tmp_path, dtype=torch.float32)
    convert(native, tmp_path / "out.gguf", to, dtype=dtype)  # type: ignore[arg-type]
    assert same(open_source(tmp_path / "out.gguf").tensors, {n: t.to(DTYPES[dtype]) for n, t in state.items()})


@pytest.mark.parametrize("size", [30_000, 300_000])
def test_no_file_is_larger_than_asked_but_for_a_single_tensor(tmp_path: Path, size: int) -> None:
    native, _ = write_model(tmp_path)
    convert(native, tmp_path / "hf", "hf", shard_size=size)
    for file in (tmp_path / "hf").glob("*.safetensors"):
        sizes = [t.nbytes for t in load_file(file).values()]
        assert sum(sizes) <= size or len(sizes) == 1


@torch.no_grad()
def test_transformers_generates_what_we_generate_and_stops_where_we_do(tmp_path: Path) -> None:
    """The embedded model as exported: its template, its tokenizer, all of its stop ids, greedily."""
    convert(embedded_model_dir(), tmp_path / "hf", "hf", dtype="fp32")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    library = AutoTokenizer.from_pretrained(tmp_path / "hf")
    renderer = Renderer(load_tokenizer(embedded_model_dir()))
    assert set(theirs.generation_config.eos_token_id) == renderer.stop_ids
    messages = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    prompt = library.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert prompt == renderer.prompt(Conversation.from_dict({"messages": messages}))
    found = theirs.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0, len(prompt) :].tolist()
    model = build_model(read_native(embedded_model_dir()), dtype=torch.float32).eval()
    ours = Generator(model, renderer.stop_ids, 1, 1024).generate([prompt], 40)[0].ids
    assert len(found) < 40 and found[-1] in renderer.stop_ids, "an answer that does not stop proves nothing"
    assert [i for i in found if i not in renderer.stop_ids] == [i for i in ours if i not in renderer.stop_ids]
