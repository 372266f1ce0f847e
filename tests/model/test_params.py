"""A model's shape in Meta's words: what ``params.json`` says, and what it cannot say."""

from typing import Any

import pytest

from callama.model.params import ModelParams

# As Meta ships them.
LLAMA_3_8B = {
    "dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 1024,
    "ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0,
}  # fmt: skip
LLAMA_32_1B = {
    "dim": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "ffn_dim_multiplier": 1.5,
    "multiple_of": 256, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": True,
}  # fmt: skip


def test_metas_files_give_the_published_shapes() -> None:
    small, large = ModelParams.from_meta(LLAMA_32_1B), ModelParams.from_meta(LLAMA_3_8B)
    assert (large.ffn_dim, large.head_dim, large.kv_heads, large.max_seq_len) == (14336, 128, 8, 8192)
    assert (small.ffn_dim, small.head_dim, small.max_seq_len) == (8192, 64, 131_072)
    assert ModelParams.from_meta({**LLAMA_3_8B, "n_kv_heads": None}).kv_heads == 32


def test_trap_26_the_rope_factor_is_32_for_llama_3_2_and_8_for_the_rest() -> None:
    assert ModelParams.from_meta(LLAMA_32_1B).rope_scale_factor == 32.0
    assert ModelParams.from_meta({**LLAMA_32_1B, "dim": 3072, "n_layers": 28, "n_heads": 24}).rope_scale_factor == 32.0
    assert ModelParams.from_meta({**LLAMA_3_8B, "use_scaled_rope": True}).rope_scale_factor == 8.0


@pytest.mark.parametrize("raw", [LLAMA_3_8B, LLAMA_32_1B])
def test_trap_24_what_is_written_is_what_meta_wrote(raw: dict[str, Any]) -> None:
    assert ModelParams.from_meta(raw, max_seq_len=512).to_meta() == raw


def test_settings_of_a_run_in_the_originals_file_are_no_shape() -> None:
    run = {"max_batch_size": 32, "max_seq_len": 1024, "use_cache": False, "embed_dropout": 0.1, "hidden_dropout": 0.1}
    assert ModelParams.from_meta({**LLAMA_3_8B, **run}) == ModelParams.from_meta(LLAMA_3_8B)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_experts": 8}, "unknown key 'n_experts'; known are dim"),
        ({"dim": None}, "dim must be a whole number above zero, found None"),
        ({"n_layers": 0}, "n_layers must be a whole number above zero, found 0"),
        ({"n_heads": 32.0}, "n_heads must be a whole number above zero, found 32.0"),
        ({"vocab_size": -1}, "vocab_size must be a whole number above zero, found -1"),
        ({"multiple_of": True}, "multiple_of must be a whole number above zero, found True"),
        ({"n_kv_heads": 0}, "n_kv_heads must be a whole number above zero, found 0"),
        ({"n_kv_heads": 5}, "dim 4096 must be a multiple of n_heads 32, and that of n_kv_heads 5"),
        ({"dim": 4097}, "dim 4097 must be a multiple of n_heads 32"),
        ({"dim": 32 * 3}, "heads are 3 wide"),
        ({"norm_eps": "1e-5"}, "norm_eps must be a number above zero, found '1e-5'"),
        ({"rope_theta": float("nan")}, "rope_theta must be a number above zero, found nan"),
        ({"ffn_dim_multiplier": 0}, "ffn_dim_multiplier must be a number above zero, found 0"),
        ({"use_scaled_rope": "false"}, "use_scaled_rope must be true or false, found 'false'"),
    ],
)
def test_an_impossible_shape_is_refused_by_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelParams.from_meta({**LLAMA_3_8B, **change})


@pytest.mark.parametrize("key", ["dim", "n_layers", "n_heads", "vocab_size"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ValueError, match=f"the key '{key}' is missing"):
        ModelParams.from_meta({k: v for k, v in LLAMA_3_8B.items() if k != key})
