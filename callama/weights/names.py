"""What each format calls the tensors and sizes of a Llama model. Meta's words are the ones used inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from callama.model.params import ModelParams
from callama.weights.lazy import Lazy, by_head, permute_rows, unpermute_rows

OUTPUT, EMBEDDING = "output.weight", "tok_embeddings.weight"
_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.weight")
HF_LINEAR = {
    "wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "wo": "o_proj",
    "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj",
}  # fmt: skip
_HF_BLOCK = {
    **{f"attention.{w}": f"self_attn.{HF_LINEAR[w]}" for w in ("wq", "wk", "wv", "wo")},
    **{f"feed_forward.{w}": f"mlp.{HF_LINEAR[w]}" for w in ("w1", "w2", "w3")},
    "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
_HF_TOP = {EMBEDDING: "model.embed_tokens.weight", "norm.weight": "model.norm.weight", OUTPUT: "lm_head.weight"}
_GGUF_BLOCK = {
    "attention.wq": "attn_q", "attention.wk": "attn_k", "attention.wv": "attn_v", "attention.wo": "attn_output",
    "feed_forward.w1": "ffn_gate", "feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up",
    "attention_norm": "attn_norm", "ffn_norm": "ffn_norm",
}  # fmt: skip
_GGUF_TOP = {EMBEDDING: "token_embd.weight", "norm.weight": "output_norm.weight", OUTPUT: "output.weight"}


def _in_words(name: str, top: Mapping[str, str], block: Mapping[str, str], layer: str) -> str:
    if match := _LAYER.fullmatch(name):
        return f"{layer.format(match[1])}.{block[match[2]]}.weight"
    return top[name]


def hf_name(name: str) -> str:
    """``layers.0.attention.wq.weight`` → ``model.layers.0.self_attn.q_proj.weight``."""
    return _in_words(name, _HF_TOP, _HF_BLOCK, "model.layers.{}")


def gguf_name(name: str) -> str:
    """``layers.0.attention.wq.weight`` → ``blk.0.attn_q.weight``."""
    return _in_words(name, _GGUF_TOP, _GGUF_BLOCK, "blk.{}")


def head_count(module: str, params: ModelParams) -> int | None:
    """How many heads a projection's rows are for, where the formats order them differently."""
    return {"wq": params.n_heads, "wk": params.kv_heads}.get(module)


def to_hf_order(name: str, tensor: Lazy, params: ModelParams) -> Lazy:
    """A tensor by Meta's name, its rows in Hugging Face's order."""
    return _ordered(name, tensor, params, permute_rows)


def from_hf_order(name: str, tensor: Lazy, params: ModelParams) -> Lazy:
    """The inverse of ``to_hf_order``."""
    return _ordered(name, tensor, params, unpermute_rows)


def _ordered(name: str, tensor: Lazy, params: ModelParams, permute: Callable[[Tensor, int], Tensor]) -> Lazy:
    if head_count(name.split(".")[-2], params) is None:
        return tensor
    return by_head(tensor, params.head_dim, permute)


def ffn_keys(dim: int, ffn_dim: int) -> dict[str, Any]:
    """Meta's two keys that give this hidden width by Meta's formula."""
    multiple = next(m for m in (256, 128, 64, 32, 16, 8, 4, 2, 1) if ffn_dim % m == 0)
    if ModelParams(dim, 1, 1, 1, multiple_of=multiple).ffn_dim == ffn_dim:
        return {"multiple_of": multiple}
    # Half a channel more, because the formula rounds the product down.
    return {"multiple_of": multiple, "ffn_dim_multiplier": (ffn_dim + 0.5) / int(8 * dim / 3)}
