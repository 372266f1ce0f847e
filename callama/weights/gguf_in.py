"""GGUF to native checkpoint, tensor by tensor.

llama.cpp's converter leaves q and k in Meta's interleaved order for the llama architecture, so
names change and rows stay. Quantised tensors are dequantised to fp32 by the ``gguf`` library; what
was lost when the file was quantised stays lost.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from callama.common.errors import CallamaError
from callama.common.files import require_file, sha256_file, write_json
from callama.model.params import ModelParams
from callama.text.gguf_vocab import tokenizer_json
from callama.weights.native import write_native

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


def _ffn_keys(dim: int, ffn_dim: int) -> dict[str, Any]:
    """Meta's two keys that give this hidden width by Meta's formula."""
    multiple = next(m for m in (256, 128, 64, 32, 16, 8, 4, 2, 1) if ffn_dim % m == 0)
    if ModelParams(dim, 1, 1, 1, multiple_of=multiple).ffn_dim == ffn_dim:
        return {"multiple_of": multiple}
    return {"multiple_of": multiple, "ffn_dim_multiplier": ffn_dim / int(8 * dim / 3)}


def gguf_to_native(path: Path, folder: Path) -> ModelParams:
    """Writes the native checkpoint of a GGUF file with the tokenizer inside it.

    Raises:
        UsageError: no such file.
        CallamaError: not GGUF, not a Llama model, or a tensor that a Llama model does not have.
    """
    require_file(path, "a GGUF model")
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError) as error:
        raise CallamaError(f"{path} is not a GGUF file, or it is cut short ({error})") from None
    fields = _Fields(reader, path)
    if (architecture := fields.get("general.architecture")) != "llama":
        raise CallamaError(f"{path} is a {architecture!r} model; callama reads 'llama'")
    tokens = fields.get("tokenizer.ggml.tokens")
    params = _params(fields, len(tokens))
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            continue  # the stretched RoPE's factors, which the parameters already say
        name = _native_name(tensor.name)
        if name is None:
            raise CallamaError(f"{path}: tensor {tensor.name} is not part of a Llama model")
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        state[name] = torch.from_numpy(values.reshape(tuple(int(n) for n in reversed(tensor.shape))))
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
