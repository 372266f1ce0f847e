"""One model and one adapter of it in every format, for the tests that damage them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from callama.common.files import atomic_folder, sha256_file
from callama.model.lora import LoRAParams, add_lora
from callama.weights.adapter import adapter_of, save_adapter
from callama.weights.convert import convert, open_source
from callama.weights.meta import write_meta
from callama.weights.native import build_model, open_native, read_native
from tests.weights.formats import FAMILIES, same, write_model

FAMILY = "Llama 3.1"
PARAMS = FAMILIES[FAMILY][0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in every format, and one adapter of it in every layout; not to be changed."""
    root = tmp_path_factory.mktemp("whole")
    native, state = write_model(root, FAMILY)
    write_meta(root / "meta", open_native(native), 2)
    convert(native, root / "hf", "hf", shard_size=400_000)
    shutil.copytree(root / "hf", root / "bin", ignore=shutil.ignore_patterns("model*", "MANIFEST.json"))
    torch.save(
        {n: t for f in (root / "hf").glob("*.safetensors") for n, t in load_file(f).items()},
        root / "bin/pytorch_model.bin",
    )
    convert(native, root / "model.gguf", "gguf")
    lora = LoRAParams(4, 2.0)
    adapter = adapter_of(add_lora(build_model(read_native(native), dtype=torch.float32), lora), lora)
    with atomic_folder(root / "peft", {"base_sha256": sha256_file(native / "consolidated.pth")}) as folder:
        save_adapter(folder, adapter, PARAMS, "base")
        shutil.copy(native / "params.json", folder)
    (root / "original").mkdir()
    (root / "zero/out").mkdir(parents=True)
    factors = {f"{n}.lora_{x}": t for n, pair in adapter.factors.items() for x, t in zip("AB", pair, strict=True)}
    for place in (root / "original/lora.pt", root / "zero/out/pytorch_model.bin"):
        torch.save(factors, place)
    for place in (root / "original", root / "zero"):
        (place / "lora.json").write_text(json.dumps({"lora_rank": 4, "lora_scaling": 2.0, "train_qv_only": False}))
        shutil.copy(native / "params.json", place)
    assert all(same(open_source(root / kind).tensors, state) for kind in ("meta", "hf", "bin", "model.gguf"))
    return root
