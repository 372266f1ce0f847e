"""GGUF to native checkpoint, tensor by tensor.

llama.cpp's converter leaves q and k in Meta's interleaved order for the llama architecture, so
names change and rows stay. Quantised tensors are dequantised to fp32 by the ``gguf`` library; what
was lost when the file was quantised stays lost.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from callama.common.errors import CallamaError
from callama.common.files import require_file, sha256_file, write_json
from callama.model.params import ModelParams
from callama.model.rope import rope_frequencies
from callama.text.gguf_vocab import tokenizer_json
from callama.weights.native import check_state, write_native

_TOP = {
    "token_embd.weight": "tok_embeddings.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "output.weight",
}
_BLOCK = {
    "attn_q": "attention.wq", "attn_k": "attention.wk", "attn_v": "attention.wv", "attn_output": "attention.wo",
    "ffn_gate": "feed_forward.w1", "ffn_down": "feed_forward.w2", "ffn_up": "feed_forward.w3",
    "attn_norm": "attention_norm", "ffn_norm": "ffn_norm",
}  # fmt: skip
_ROPE_DIVISORS = "rope_freqs.weight"
_BLOCK_NAME = re.compile(r"blk\.(\d+)\.(\w+)\.weight")


def _native_name(name: str) -> str | None:
    if block := _BLOCK_NAME.fullmatch(name):
        part = _BLOCK.get(block[2])
        return part and f"layers.{block[1]}.{part}.weight"
    return _TOP.get(name)


class _Fields:
    """Typed access to a file's key-value fields."""

    def __init__(self, reader: Any, path: Path) -> None:
        self._reader, self._path = reader, path

    def get(self, key: str, default: Any = None) -> Any:
        field = self._reader.fields.get(key)
        if field is None:
            if default is None:
                raise CallamaError(f"{self._path} lacks the field {key}; is it a Llama model?")
            return default
        return field.contents()


def _params(fields: _Fields, vocab_size: int) -> ModelParams:
    def get(key: str, default: Any = None) -> Any:
        return fields.get(f"llama.{key}", default)

    dim, ffn_dim = int(get("embedding_length")), int(get("feed_forward_length"))
    meta = {
        "dim": dim,
        "n_layers": int(get("block_count")),
        "n_heads": int(get("attention.head_count")),
        "n_kv_heads": int(get("attention.head_count_kv", get("attention.head_count"))),
        "vocab_size": vocab_size,
        "norm_eps": round(float(get("attention.layer_norm_rms_epsilon")), 10),
        "rope_theta": float(get("rope.freq_base", 10_000.0)),
        **_ffn_keys(dim, ffn_dim),
    }
    return ModelParams.from_meta(meta, max_seq_len=int(get("context_length")))


def _stretched(params: ModelParams, divisors: torch.Tensor, path: Path) -> ModelParams:
    """Params with Llama 3.1's RoPE scaling, which GGUF keeps as what each frequency is divided by
    (ggml-org/llama.cpp, ``convert_hf_to_gguf.py``)."""
    scaled = replace(params, use_scaled_rope=True, rope_scale_factor=round(float(divisors.max()), 3))
    expected = rope_frequencies(params)
    if divisors.shape != expected.shape or not torch.allclose(rope_frequencies(scaled), expected / divisors, rtol=1e-4):
        raise CallamaError(f"{path}: {_ROPE_DIVISORS} is not Llama 3.1's scaling of RoPE, the only one callama knows")
    return scaled


def _ffn_keys(dim: int, ffn_dim: int) -> dict[str, Any]:
    """Meta's two keys that give this hidden width by Meta's formula."""
    multiple = next(m for m in (256, 128, 64, 32, 16, 8, 4, 2, 1) if ffn_dim % m == 0)
    if ModelParams(dim, 1, 1, 1, multiple_of=multiple).ffn_dim == ffn_dim:
        return {"multiple_of": multiple}
    # Half a channel more, because the formula rounds the product down.
    return {"multiple_of": multiple, "ffn_dim_multiplier": (ffn_dim + 0.5) / int(8 * dim / 3)}


def _check_kind(fields: _Fields, path: Path) -> None:
    if (architecture := fields.get("general.architecture")) != "llama":
        raise CallamaError(f"{path} is a {architecture!r} model; callama reads 'llama'")
    if (vocabulary := fields.get("tokenizer.ggml.model")) != "gpt2":
        raise CallamaError(f"{path} has a {vocabulary!r} tokenizer; callama reads byte-level BPE ('gpt2')")
    if (scaling := fields.get("llama.rope.scaling.type", "none")) != "none":
        raise CallamaError(f"{path} scales RoPE by {scaling!r}; callama knows Llama 3.1's scaling only")


def _values(tensor: Any, path: Path) -> torch.Tensor:
    try:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    except NotImplementedError:
        kind = tensor.tensor_type.name
        raise CallamaError(f"{path}: tensor {tensor.name} is quantised as {kind}, which gguf cannot read") from None
    return torch.from_numpy(values.reshape(tuple(int(n) for n in reversed(tensor.shape))))


def gguf_to_native(path: Path, folder: Path) -> ModelParams:
    """Writes the native checkpoint of a GGUF file with the tokenizer inside it.

    Raises:
        UsageError: no such file.
        CallamaError: not GGUF, not a Llama model, or a tensor that a Llama model does not have.
    """
    require_file(path, "a GGUF model")
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise CallamaError(f"{path} is not a GGUF file, or it is cut short ({error})") from None
    fields = _Fields(reader, path)
    _check_kind(fields, path)
    tokens = fields.get("tokenizer.ggml.tokens")
    params = _params(fields, len(tokens))
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        name = _native_name(tensor.name)
        if tensor.name == _ROPE_DIVISORS:
            params = _stretched(params, _values(tensor, path), path)
        elif name is None:
            raise CallamaError(f"{path}: tensor {tensor.name} is not part of a Llama model")
        else:
            state[name] = _values(tensor, path)
    check_state(path, state, params, "its llama.* fields")
    spec = tokenizer_json(
        tokens,
        fields.get("tokenizer.ggml.token_type"),
        fields.get("tokenizer.ggml.merges"),
        fields.get("tokenizer.ggml.pre", "gpt-2"),
    )
    facts = {"source": path.name, "source_sha256": sha256_file(path), "dtype": "fp32"}
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer_file = Path(temporary) / "tokenizer.json"
        write_json(tokenizer_file, spec)
        write_native(folder, params, state, tokenizer_file, facts)
    return params
