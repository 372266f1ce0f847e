"""GGUF in: the same numbers that other readers of the file see, or a refusal that names what is wrong."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest, sha256_file
from callama.model.attend import Documents
from callama.model.params import ModelParams
from callama.model.rope import rope_frequencies
from callama.text.tokenizer import load_tokenizer
from callama.weights.convert import convert
from callama.weights.gguf_in import gguf_to_native, open_gguf, verify_gguf
from callama.weights.names import ffn_keys
from callama.weights.native import build_model, read_native, write_native
from tests.fetch import embedded_gguf_path, embedded_model_dir
from tests.model.tiny import ROUNDED, tiny

LETTERS = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
TOKENS = ["<|im_start|>", "<|im_end|>", *LETTERS, "Ġt", "Ġth"]
PARAMS = replace(ROUNDED, vocab_size=len(TOKENS), rope_theta=10_000.0, max_seq_len=512)
_NAMES = {
    "attention.wq": "attn_q", "attention.wk": "attn_k", "attention.wv": "attn_v", "attention.wo": "attn_output",
    "feed_forward.w1": "ffn_gate", "feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up",
    "attention_norm": "attn_norm", "ffn_norm": "ffn_norm", "tok_embeddings": "token_embd", "norm": "output_norm",
}  # fmt: skip
Quantise = Callable[[np.ndarray], tuple[np.ndarray, Any]]
KINDS: dict[str, Quantise] = {
    "F32": lambda x: (x, None),
    "F16": lambda x: (x.astype(np.float16), None),
    "Q8_0": lambda x: (gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0),
    "F64": lambda x: (x.astype(np.float64), None),
}


def gguf_name(name: str) -> str:
    name = name.removesuffix(".weight")
    if name.startswith("layers."):
        _, layer, part = name.split(".", 2)
        return f"blk.{layer}.{_NAMES[part]}.weight"
    return f"{_NAMES.get(name, name)}.weight"


def write_gguf(
    path: Path,
    state: Mapping[str, Tensor],
    kind: str = "F32",
    *,
    architecture: str = "llama",
    fields: Mapping[str, Any] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
    parts: int | None = None,
    other: Mapping[str, int] | None = None,
) -> Path:
    """What llama.cpp's converter would write for a model of shape ``PARAMS``; None takes a field out."""
    values: dict[str, Any] = {
        "context_length": 512, "embedding_length": PARAMS.dim, "block_count": PARAMS.n_layers,
        "feed_forward_length": PARAMS.ffn_dim, "attention.head_count": PARAMS.n_heads,
        "attention.head_count_kv": PARAMS.kv_heads, "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10_000.0, **(fields or {}),
    }  # fmt: skip
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in values.items():
        if value is not None:
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
            add(f"{architecture}.{name}", value)
    writer.add_tokenizer_model((fields or {}).get("vocabulary", "gpt2"))
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3] + [1] * (len(TOKENS) - 2))
    writer.add_token_merges(["Ġ t", "Ġt h"])
    if parts is not None:
        writer.add_uint16("split.count", parts)
    for name, value in (other or {}).items():
        writer.kv_data[0].pop(name)
        writer.add_uint32(name, value)
    for name, tensor in state.items():
        data, raw_kind = KINDS[kind if tensor.dim() == 2 else "F32"](tensor.numpy())
        writer.add_tensor(gguf_name(name), data, raw_dtype=raw_kind)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def made(*, tied: bool = False) -> dict[str, Tensor]:
    return dict(tiny(PARAMS, tied=tied).state_dict())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_a_gguf_becomes_the_native_checkpoint_of_its_numbers(tmp_path: Path, kind: str, tied: bool) -> None:
    state = made(tied=tied)
    path = write_gguf(tmp_path / "tiny.gguf", state, kind)
    before = sha256_file(path)
    params = gguf_to_native(path, tmp_path / "out")
    found = read_native(tmp_path / "out")
    assert found.params == params == replace(PARAMS, multiple_of=params.multiple_of)
    assert params.ffn_dim == PARAMS.ffn_dim and found.tied == tied and found.state.keys() == state.keys()
    for name, tensor in state.items():
        # Plain kinds stay what they are; norms, which GGUF keeps in F32, would lose by becoming fp16 here.
        assert found.state[name].dtype == (torch.float16 if kind == "F16" and tensor.dim() == 2 else torch.float32)
        # A block of 32 in Q8_0 shares a scale: half a step of 127 from its largest number.
        loss = {"F32": 0.0, "F16": 2**-11, "Q8_0": 0.6 / 127}[kind if tensor.dim() == 2 else "F32"]
        assert (found.state[name] - tensor).abs().max() <= loss * tensor.abs().max(), name
    manifest = read_manifest(tmp_path / "out")
    assert manifest["source"] == "tiny.gguf" and manifest["source_sha256"] == before == sha256_file(path)


QUANTISED = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS",
    "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*encountered in multiply:RuntimeWarning")
@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_kinds_are_what_the_gguf_library_makes_of_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Any bytes are a tensor of these kinds, so random ones stand for all that a file may hold; blocks with NaN or
    infinity are drawn again, because those are refused."""
    number, random = gguf.GGMLQuantizationType[kind], np.random.default_rng(1)
    block, block_bytes = gguf.GGML_QUANT_SIZES[number]
    packed: dict[tuple[int, ...], np.ndarray] = {}

    def pack(x: np.ndarray) -> tuple[np.ndarray, Any]:
        blocks = random.integers(0, 256, (x.size // block, block_bytes), dtype=np.uint8)
        while (broken := ~np.isfinite(gguf.quants.dequantize(blocks, number)).all(axis=1)).any():
            blocks[broken] = random.integers(0, 256, (broken.sum(), block_bytes), dtype=np.uint8)
        return packed.setdefault(x.shape, blocks.reshape(x.shape[0], -1)), number

    monkeypatch.setitem(KINDS, kind, pack)
    params = replace(PARAMS, dim=256, multiple_of=256)
    state = dict(tiny(params, tied=True).state_dict())
    sizes = {"embedding_length": 256, "feed_forward_length": params.ffn_dim}
    gguf_to_native(write_gguf(tmp_path / "a.gguf", state, kind, fields=sizes), tmp_path / "out")
    found = read_native(tmp_path / "out").state
    assert {t.dtype for t in found.values()} == {torch.float32} and len(packed) > 2
    for name, tensor in state.items():
        if tensor.dim() == 2:
            expected = np.ascontiguousarray(gguf.quants.dequantize(packed[tuple(tensor.shape)], number))
            # As bytes, because 0 is equal to -0.
            assert expected.tobytes() == found[name].numpy().tobytes(), name


def test_the_tokenizer_inside_is_kept(tmp_path: Path) -> None:
    gguf_to_native(write_gguf(tmp_path / "tiny.gguf", made()), tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.special_tokens == {"<|im_start|>": 0, "<|im_end|>": 1}
    assert [tokenizer.pieces[i] for i in tokenizer.encode(" the<|im_end|>12")] == [
        b" th", b"e", *(bytes([c]) for c in b"<|im_end|>12")
    ]  # fmt: skip


def llama3_divisors(factor: float, head_dim: int, theta: float) -> np.ndarray:
    """As llama.cpp's converter computes them (convert_hf_to_gguf.py, LlamaModel.generate_extra_tensors)."""
    out = []
    for frequency in 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim):
        wavelength = 2 * np.pi / frequency
        if wavelength < 8192 / 4:
            out.append(1.0)
        elif wavelength > 8192:
            out.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / 3
            out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, dtype=np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_trap_26_scaled_rope_is_read_from_its_divisors(tmp_path: Path, factor: float) -> None:
    divisors = llama3_divisors(factor, PARAMS.head_dim, 500_000.0)
    fields = {"rope.freq_base": 500_000.0, "context_length": 131_072}
    path = write_gguf(tmp_path / "a.gguf", made(), fields=fields, extra={"rope_freqs.weight": divisors})
    params = gguf_to_native(path, tmp_path / "out")
    assert params.use_scaled_rope and params.rope_scale_factor == factor and params.max_seq_len == 131_072
    plain = rope_frequencies(replace(params, use_scaled_rope=False))
    torch.testing.assert_close(rope_frequencies(params), plain / torch.from_numpy(divisors), rtol=1e-5, atol=0)
    assert read_native(tmp_path / "out").params == params


@given(dim=st.integers(1, 5000).map(lambda n: 2 * n), ffn_dim=st.integers(1, 40_000))
def test_any_hidden_width_can_be_said_in_metas_two_keys(dim: int, ffn_dim: int) -> None:
    assert ModelParams(dim, 1, 1, 1, **ffn_keys(dim, ffn_dim)).ffn_dim == ffn_dim


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"architecture": "qwen2"}, "is a 'qwen2' model; callama reads 'llama'"),
    "vocabulary": ({"fields": {"vocabulary": "llama"}}, "has a 'llama' tokenizer; callama reads byte-level BPE"),
    "rope": ({"fields": {"rope.scaling.type": "yarn"}}, "scales RoPE by 'yarn'"),
    "divisors": ({"extra": {"rope_freqs.weight": np.array([1, 2, 3, 4, 5, 6, 7, 8], np.float32)}}, "rope_freqs.weight"),
    "divisors' length": ({"extra": {"rope_freqs.weight": np.ones(3, np.float32)}}, "rope_freqs.weight is not Llama"),
    "bias": ({"extra": {"blk.0.attn_q.bias": np.ones(32, np.float32)}}, r"blk\.0\.attn_q\.bias is not part of a Llama"),
    "experts": ({"extra": {"blk.0.ffn_gate_exps.weight": np.ones((2, 32), np.float32)}}, "ffn_gate_exps"),
    "missing field": ({"fields": {"block_count": None}}, r"lacks the field llama\.block_count; is it a Llama model"),
    "missing tensors": ({"fields": {"block_count": 2}}, r"lacks tensor layers\.1\.\S+ by the shape in its llama"),
    "wrong shape": (
        {"fields": {"feed_forward_length": 512}},
        r"feed_forward\.w1\.weight has shape \(96, 32\), but its llama\.\* fields asks for \(512, 32\)",
    ),
    "kind": ({"kind": "F64"}, r"tensor token_embd\.weight is of the type F64, which callama cannot read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_gguf_that_is_no_plain_llama_is_refused(tmp_path: Path, name: str) -> None:
    how, message = WRONG[name]
    path = write_gguf(tmp_path / "a.gguf", made(), **how)
    with pytest.raises(CallamaError, match=message) as caught:
        gguf_to_native(path, tmp_path / "out")
    assert str(path) in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [0, 3, 40, 2000, -200])
def test_a_gguf_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_gguf(tmp_path / "a.gguf", made())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        CallamaError, match=r"is not a GGUF file: it begins with b'.*, expected b'GGUF'|is cut short or damaged"
    ):
        gguf_to_native(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist; expected a GGUF model"):
        gguf_to_native(tmp_path / "gone.gguf", tmp_path / "out")


# Written for this test.
PROSE = """The lighthouse at Cape Varga was built in 1871, after three ships of the same company were lost on the \
reef within eleven days. Its keeper, a former baker named Ines Aldana, kept two diaries: one for the weather, \
which the harbour office collected every Friday, and one for everything else, which nobody read until 1996. \
"Wind NW 7, visibility 2 miles," says the first for 4 March 1889; the second says only that the kettle had \
cracked, and that she had laughed about it until the lamp needed oil.

Today the tower is empty and its light is automatic. Visitors pay €4.50, climb 214 steps, and find at the top a \
copy of both diaries under glass, opened at the same date, so that everyone can see how little the one says of \
the other."""


@pytest.mark.slow
@torch.no_grad()
def test_the_embedded_model_has_the_loss_that_transformers_finds_in_the_same_gguf() -> None:
    path = embedded_gguf_path()
    theirs_tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokenizer = load_tokenizer(embedded_model_dir())
    ids = tokenizer.encode(PROSE)
    assert len(ids) > 180 and ids == theirs_tokenizer.encode(PROSE, add_special_tokens=False)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    ours = build_model(read_native(embedded_model_dir()), dtype=torch.float32).eval()

    tokens = torch.tensor(ids)
    logits = ours.logits(ours(tokens[None], Documents([[len(ids)]])))[0]
    found, expected = (
        F.cross_entropy(x[:-1], tokens[1:], reduction="none") for x in (logits, theirs(tokens[None]).logits[0])
    )
    assert expected.mean() < 4, "the reference itself does not understand the text"
    assert (found - expected).abs().max() <= 1e-3


@pytest.mark.slow
def test_the_embedded_model_is_the_published_shape() -> None:
    params = json.loads((embedded_model_dir() / "params.json").read_text())
    assert params == {
        "dim": 576, "n_layers": 30, "n_heads": 9, "n_kv_heads": 3, "vocab_size": 49_152, "multiple_of": 256,
        "ffn_dim_multiplier": None, "norm_eps": 1e-05, "rope_theta": 100_000.0,
    }  # fmt: skip
    checkpoint = read_native(embedded_model_dir())
    assert checkpoint.tied and checkpoint.params.ffn_dim == 1536 and checkpoint.params.max_seq_len == 8192


# A field beyond those that every file has, and what the refusal says of it.
OTHER_ARITHMETIC: dict[str, int | float | str] = {
    "rope.scaling.factor": 4.0, "rope.scale_linear": 2.0, "rope.dimension_count": 4, "attention.sliding_window": 128,
    "logit_scale": 0.5, "attention.key_length": 64, "expert_count": 8, "attention.temperature_scale": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("key", OTHER_ARITHMETIC)
def test_a_field_that_asks_for_other_arithmetic_is_refused(tmp_path: Path, key: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", made(), fields={key: OTHER_ARITHMETIC[key]})
    with pytest.raises(CallamaError, match=rf"a\.gguf: llama\.{re.escape(key)} is .*; callama's Llama has"):
        gguf_to_native(path, tmp_path / "out")


def test_fields_that_change_nothing_are_taken(tmp_path: Path) -> None:
    fields = {"rope.dimension_count": PARAMS.head_dim, "rope.scale_linear": 1.0, "expert_count": 0,
              "attention.key_length": PARAMS.head_dim, "vocab_size": len(TOKENS)}  # fmt: skip
    gguf_to_native(write_gguf(tmp_path / "a.gguf", made(), fields=fields), tmp_path / "out")
    found = read_native(tmp_path / "out").params
    assert found == replace(PARAMS, multiple_of=found.multiple_of) and found.ffn_dim == PARAMS.ffn_dim


def raw_text(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


def damaged(path: Path, fields: bytes, count: int) -> Path:
    """A file that begins with these fields, the first ``count`` of which are to be read."""
    head = b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + count.to_bytes(8, "little")
    path.write_bytes(head + fields + bytes(100_000))
    return path


def number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


IMPOSSIBLE = {
    "numbers without end": raw_text("a") + number(9) + number(4) + number(1 << 40, 8),
    "texts without end": raw_text("a") + number(9) + number(8) + number(1 << 40, 8),
    "a text without end": raw_text("a") + number(8) + number(1 << 40, 8),
    "a name without end": number(1 << 40, 8),
    "an unknown type": raw_text("a") + number(99),
    "lists in lists": raw_text("a") + number(9) + (number(9) + number(1, 8)) * 3000,
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_lengths_are_held_against_the_file_before_anything_is_collected(tmp_path: Path, name: str) -> None:
    path = damaged(tmp_path / "a.gguf", IMPOSSIBLE[name], 1)
    for use in (open_gguf, verify_gguf):
        with pytest.raises(CallamaError, match=r"a\.gguf is cut short or damaged"):
            use(path)


def test_a_damaged_file_at_the_destination_is_not_replaced(tmp_path: Path) -> None:
    native = tmp_path / "native"
    gguf_to_native(write_gguf(tmp_path / "a.gguf", made()), native)
    path = damaged(tmp_path / "out.gguf", IMPOSSIBLE["lists in lists"], 1)
    with pytest.raises(UsageError, match="is no GGUF file of callama's"):
        convert(native, path, "gguf")


def test_a_part_of_a_split_file_says_how_to_join_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", made(), parts=3)
    with pytest.raises(CallamaError, match=r"one of 3 parts of a model \(field split\.count\).*llama-gguf-split"):
        open_gguf(path)


def test_a_kind_of_tensor_that_the_library_does_not_know_is_told(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", made())
    content = bytearray(path.read_bytes())
    at = content.index(b"output_norm.weight") + len("output_norm.weight") + 4 + 8  # one dimension, its length
    assert content[at : at + 4] == number(gguf.GGMLQuantizationType.F32)
    content[at : at + 4] = number(4711)
    path.write_bytes(content)
    with pytest.raises(
        CallamaError, match=r"Or a tensor is of a kind that the gguf library does not know \(.*4711\)? is"
    ):
        open_gguf(path)


@pytest.mark.parametrize("key", ["tokens", "token_type", "merges"])
def test_a_tokenizers_list_that_is_none_is_named(tmp_path: Path, key: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", made(), other={f"tokenizer.ggml.{key}": 7})
    with pytest.raises(CallamaError, match=rf"the field tokenizer\.ggml\.{key} must be a list of"):
        open_gguf(path)


def test_divisors_without_elements_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", made(), extra={"rope_freqs.weight": np.zeros(0, np.float32)})
    with pytest.raises(CallamaError, match=r"tensor rope_freqs\.weight has the shape \(0,\)"):
        open_gguf(path)


def test_a_small_epsilon_of_another_tool_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", made(), fields={"attention.layer_norm_rms_epsilon": 1.5e-10})
    assert open_gguf(path).params.norm_eps == 1.5e-10


def test_what_another_tool_changed_counts_and_not_what_callama_wrote_beside_it(tmp_path: Path) -> None:
    scaled = replace(PARAMS, use_scaled_rope=True, rope_scale_factor=3.14159265, norm_eps=1 / 3e5, rope_theta=1e4 / 3)
    gguf_to_native(write_gguf(tmp_path / "a.gguf", made()), tmp_path / "first")
    write_native(tmp_path / "native", scaled, read_native(tmp_path / "first").state,
                 tmp_path / "first/tokenizer.json", {})  # fmt: skip
    convert(tmp_path / "native", tmp_path / "b.gguf", "gguf")
    assert essentials(open_gguf(tmp_path / "b.gguf").params) == essentials(scaled)
    reader = gguf.GGUFReader(tmp_path / "b.gguf", "r+")
    for name, value in (("attention.layer_norm_rms_epsilon", 2e-6), ("rope.freq_base", 100_000.0)):
        field = reader.fields[f"llama.{name}"]
        field.parts[field.data[0]][0] = value
    next(t for t in reader.tensors if t.name == "rope_freqs.weight").data[:] = llama3_divisors(
        4.0, PARAMS.head_dim, 100_000.0
    )
    reader.data.flush()
    found = open_gguf(tmp_path / "b.gguf").params
    assert essentials(found) == (2e-6, 100_000.0, True, 4.0)


def essentials(params: ModelParams) -> tuple[float, float, bool, float]:
    return params.norm_eps, params.rope_theta, params.use_scaled_rope, params.rope_scale_factor
