"""Small models with a real tokenizer, in every format, for the tests of conversion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from callama.common.files import sha256_file
from callama.model.params import ModelParams
from callama.model.transformer import Transformer
from callama.text.tokenizer import load_tokenizer
from callama.weights.lazy import Lazy
from callama.weights.native import write_native
from tests import tiny

# Eight heads of keys, so that eight shards are possible; a width that every count divides.
SHAPE = ModelParams(dim=128, n_layers=2, n_heads=8, n_kv_heads=8, vocab_size=400, multiple_of=64, max_seq_len=8192)
SCALED = replace(SHAPE, n_kv_heads=4, use_scaled_rope=True, rope_scale_factor=8.0, max_seq_len=131_072)
FAMILIES = {
    "Llama 3": (SHAPE, False),
    "Llama 3.1": (SCALED, False),
    "Llama 3.2": (replace(SCALED, rope_scale_factor=32.0), True),
}


def random_state(params: ModelParams, *, tied: bool, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """Random weights by Meta's names, norms around one."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for name, like in Transformer(params, tied=tied).state_dict().items():
        scale = 0.2 if like.dim() == 1 else like.shape[-1] ** -0.5
        tensor = torch.randn(like.shape, generator=generator) * scale + (1.0 if like.dim() == 1 else 0.0)
        state[name] = tensor.to(dtype)
    return state


def write_model(
    root: Path, family: str = "Llama 3", *, dtype: torch.dtype = torch.bfloat16, name: str = "native"
) -> tuple[Path, dict[str, Tensor]]:
    """A native checkpoint with a ChatML tokenizer of 400 tokens."""
    params, tied = FAMILIES[family]
    if not (root / "tokenizer.json").is_file():
        tiny.write_tokenizer(root / "tokenizer.json", params.vocab_size)
    assert load_tokenizer(root / "tokenizer.json").vocab_size == params.vocab_size
    state = random_state(params, tied=tied, dtype=dtype)
    write_native(root / name, params, state, root / "tokenizer.json", {"dialect": "tool_uses"})
    return root / name, state


def same(found: Mapping[str, Lazy] | Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether names, types and bits are equal."""
    tensors = {name: t.whole() if isinstance(t, Lazy) else t for name, t in found.items()}
    return tensors.keys() == expected.keys() and all(
        t.dtype == expected[n].dtype and torch.equal(t, expected[n]) for n, t in tensors.items()
    )


def snapshot(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder."""
    return {str(p.relative_to(folder)): sha256_file(p) for p in folder.rglob("*") if p.is_file()}


def disown(path: Path) -> None:
    """Takes a file's entry out of the manifest beside it: from now on it counts as another tool's."""
    manifest = path.parent / "MANIFEST.json"
    if manifest.is_file():
        facts = json.loads(manifest.read_text())
        facts["files"].pop(path.name, None)
        manifest.write_text(json.dumps(facts))
