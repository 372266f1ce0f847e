"""The shape of a Llama 3 model, in the words of Meta's ``params.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from reprlib import repr as short
from typing import Any

# Llama 3.2 1B and 3B stretch RoPE 32-fold, every other scaled model 8-fold; params.json cannot say so.
_FACTOR_32_SHAPES = {(2048, 16), (3072, 28)}
META_FACTOR = 8.0  # of Meta's own code (llama-models, llama3/model.py, apply_scaling)
_MAX_LAYERS = 1000  # the largest Llama 3 has 126
_MAX_SIZE = 1 << 24  # of any side of a matrix; what is larger is damage
_MAX_NUMBER = 1e12  # RoPE bases of long contexts come to 1e9
MAX_CONTEXT = 1 << 31  # tokens, and how often RoPE may be stretched
_NO_MULTIPLIER = ("ffn_dim_multiplier", None)
# Written by the original project, or settings of a run rather than of a model.
_NOT_A_SHAPE = {"max_batch_size", "max_seq_len", "use_cache", "embed_dropout", "attention_dropout", "hidden_dropout"}


@dataclass(frozen=True)
class ModelParams:
    """Sizes and constants of the transformer.

    ``max_seq_len`` is the model's context in tokens, ``rope_scale_factor`` applies when
    ``use_scaled_rope``; both are callama's and never written to ``params.json``.
    """

    dim: int
    n_layers: int
    n_heads: int
    vocab_size: int
    n_kv_heads: int | None = None
    multiple_of: int = 256
    ffn_dim_multiplier: float | None = None
    norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    use_scaled_rope: bool = False
    rope_scale_factor: float = 8.0
    max_seq_len: int = 8192

    @classmethod
    def from_meta(cls, raw: Mapping[str, Any], *, max_seq_len: int | None = None) -> ModelParams:
        """From the object in ``params.json``.

        Raises:
            ValueError: a key is missing, unknown, or its value impossible.
        """
        known = {f.name for f in fields(cls)} - {"rope_scale_factor", "max_seq_len"}
        given = {k: v for k, v in raw.items() if k not in _NOT_A_SHAPE}
        if unknown := sorted(set(given) - known):
            raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        if missing := [k for k in ("dim", "n_layers", "n_heads", "vocab_size") if k not in given]:
            raise ValueError(f"the key {missing[0]!r} is missing")
        for name in ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of"):
            value = given.get(name, 1)
            if (type(value) is not int or value <= 0) and (name, value) != ("n_kv_heads", None):
                raise ValueError(f"{name} must be a whole number above zero, found {short(value)}")
            if value is not None and value > _MAX_SIZE:
                raise ValueError(f"{name} must be at most {_MAX_SIZE:,}, found {short(value)}")
        for name in ("ffn_dim_multiplier", "norm_eps", "rope_theta"):
            value = given.get(name, 1.0)
            if not (type(value) in (int, float) and 0 < value < _MAX_NUMBER) and (name, value) != _NO_MULTIPLIER:
                raise ValueError(
                    f"{name} must be a number above zero, found {short(value)}, or is beyond {_MAX_NUMBER:g}"
                )
        if type(scaled := given.get("use_scaled_rope", False)) is not bool:
            raise ValueError(f"use_scaled_rope must be true or false, found {short(scaled)}")
        if given["n_layers"] > _MAX_LAYERS:
            raise ValueError(f"n_layers must be at most {_MAX_LAYERS}, found {given['n_layers']}")
        if max_seq_len is not None and (type(max_seq_len) is not int or not 0 < max_seq_len <= MAX_CONTEXT):
            raise ValueError(f"the context must be a whole number of tokens from 1 to 2^31, found {short(max_seq_len)}")
        factor = 32.0 if (given["dim"], given["n_layers"]) in _FACTOR_32_SHAPES else META_FACTOR
        context = max_seq_len or (131_072 if scaled else 8192)
        params = cls(**given, rope_scale_factor=factor, max_seq_len=context)
        if not 0 < (width := params.ffn_dim) <= _MAX_SIZE:
            raise ValueError(f"the feed-forward would be {short(width)} wide; from 1 to {_MAX_SIZE:,} is possible")
        if params.dim % params.n_heads or params.n_heads % params.kv_heads:
            raise ValueError(
                f"dim {params.dim} must be a multiple of n_heads {params.n_heads}, "
                f"and that of n_kv_heads {params.kv_heads}"
            )
        if params.head_dim % 2:
            raise ValueError(f"heads are {params.head_dim} wide (dim / n_heads); RoPE turns pairs, so it must be even")
        return params

    def scaled_by(self, factor: float) -> ModelParams:
        """The same with Llama 3.1's RoPE scaling by ``factor``.

        Raises:
            ValueError: it is below one or beyond 2^31.
        """
        if type(factor) not in (int, float) or not 1 <= factor <= MAX_CONTEXT:
            raise ValueError(f"RoPE's scaling factor must be a number from 1 to 2^31, found {short(factor)}")
        return replace(self, use_scaled_rope=True, rope_scale_factor=float(factor))

    def to_meta(self) -> dict[str, Any]:
        """Meta's keys only, so that Meta's own loaders accept the file."""
        out = asdict(self)
        del out["rope_scale_factor"], out["max_seq_len"]
        if not self.use_scaled_rope:
            del out["use_scaled_rope"]
        return out

    def arithmetic(self) -> dict[str, Any]:
        """What decides the numbers that a model computes, its context aside. Two files may spell the width of the
        feed-forward, or equally many key heads, in different words."""
        names = (
            "dim", "n_layers", "n_heads", "kv_heads", "ffn_dim", "vocab_size", "norm_eps", "rope_theta",
            "use_scaled_rope",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads."""
        return self.n_kv_heads if self.n_kv_heads is not None else self.n_heads

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Hidden width of the feed-forward (meta-llama/llama3, ``model.py``, FeedForward)."""
        hidden = int(2 * (4 * self.dim) / 3)
        if self.ffn_dim_multiplier is not None:
            hidden = int(self.ffn_dim_multiplier * hidden)
        return self.multiple_of * ((hidden + self.multiple_of - 1) // self.multiple_of)
