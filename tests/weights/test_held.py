"""What lies beside an adapter's factors, and in one file with them: held against the manifest or the base, and never
dropped without a word."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from callama.common.errors import CallamaError
from callama.common.files import atomic_folder
from callama.weights.adapter import read_adapter
from callama.weights.convert import convert
from callama.weights.merge import check_base, merge_to_folder
from callama.weights.native import open_native
from callama.weights.shards import consolidate
from tests.weights.conftest import PARAMS
from tests.weights.formats import disown

PART, STATES = "zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"


def write_job(folder: Path, original: Path, more: dict[str, Tensor] | None = None) -> Path:
    """The original's files and one process of ZeRO 2, in DeepSpeed's layout, under a manifest."""
    state = {**torch.load(original / "lora.pt", weights_only=True), **(more or {})}
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    optimizer = {"zero_stage": 2, "partition_count": 1, "single_partition_of_fp32_groups": [flat]}
    with atomic_folder(folder, {}) as temporary:
        shutil.copytree(original, temporary, dirs_exist_ok=True)
        torch.save({"optimizer_state_dict": optimizer}, temporary / PART)
        torch.save({"param_shapes": [{name: tensor.shape for name, tensor in state.items()}]}, temporary / STATES)
    return folder


def alter(path: Path) -> None:
    """Puts another whole file of the same meaning in its place."""
    if path.suffix == ".json":
        path.write_text(path.read_text() + " ")
    else:
        state = torch.load(path, weights_only=True)
        torch.save(dict(reversed(state.items())) if len(state) > 1 else {**state, "global_steps": 2}, path)


@pytest.mark.parametrize("name", [PART, STATES, "lora.json", "params.json"])
def test_a_checkpoint_that_is_not_what_callama_wrote_is_not_consolidated(
    whole: Path, tmp_path: Path, name: str
) -> None:
    job = write_job(tmp_path / "job", whole / "original")
    alter(job / name)
    with pytest.raises(CallamaError, match=rf"{re.escape(name)} was changed or damaged after callama wrote it"):
        consolidate(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    disown(job / name)
    consolidate(job, tmp_path / "out")


@pytest.mark.parametrize("name", ["lora.pt", "lora.json", "params.json"])
def test_the_originals_files_are_held_against_a_manifest(whole: Path, tmp_path: Path, name: str) -> None:
    job = write_job(tmp_path / "job", whole / "original")
    alter(job / name)
    with pytest.raises(CallamaError, match=rf"{re.escape(name)} was changed or damaged after callama wrote it"):
        convert(job / "lora.pt", tmp_path / "out", "peft")
    if name != "params.json":  # merging takes the base's
        with pytest.raises(CallamaError, match=rf"{re.escape(name)} was changed or damaged"):
            merge_to_folder(whole / "native", job / "lora.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    disown(job / name)
    convert(job / "lora.pt", tmp_path / "out", "peft")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_so_are_those_that_zero_to_fp32_writes(whole: Path, tmp_path: Path, name: str) -> None:
    state = torch.load(whole / "original/lora.pt", weights_only=True)
    with atomic_folder(tmp_path / "job", {}) as folder:
        for file in ("lora.json", "params.json"):
            shutil.copy(whole / "original" / file, folder)
        torch.save(state, folder / "pytorch_model.bin")
        places = ", ".join(f'"{key}": "pytorch_model.bin"' for key in state)
        (folder / "pytorch_model.bin.index.json").write_text(f'{{"weight_map": {{{places}}}}}')
    convert(tmp_path / "job", tmp_path / "before", "peft")
    alter(tmp_path / "job" / name)
    with pytest.raises(CallamaError, match=rf"{re.escape(name)} was changed or damaged"):
        convert(tmp_path / "job", tmp_path / "out", "peft")


def test_what_was_trained_besides_factors_is_not_dropped(whole: Path, tmp_path: Path) -> None:
    """The original's script loads it into the model, load_state_dict(…, strict=False)."""
    shutil.copytree(whole / "original", tmp_path / "job")
    base = torch.load(whole / "native/consolidated.pth", weights_only=True)
    factors = torch.load(whole / "original/lora.pt", weights_only=True)
    path, said = tmp_path / "job/lora.pt", "If it was trained, put it into the base's file and take it out of this one"
    for more in ({"norm.weight": 3 * base["norm.weight"]}, {"module.output.weight": torch.randn(400, 128)},
                 {"head": torch.ones(2)}):  # fmt: skip
        torch.save({**base, **factors, **more}, path)
        name = next(iter(more)).removeprefix("module.")
        with pytest.raises(CallamaError, match=rf"lora\.pt holds {name} besides .*not the base's.*\. {said}"):
            merge_to_folder(whole / "native", path, tmp_path / "out", max_changed=1)
        with pytest.raises(CallamaError, match=rf"lora\.pt holds \S+ besides LoRA factors, .*\. {said}"):
            convert(path, tmp_path / "out", "peft")
    job = write_job(tmp_path / "zero", whole / "original", {"norm.weight": base["norm.weight"].float()})
    with pytest.raises(CallamaError, match=rf"zero holds norm\.weight besides LoRA factors, .*\. {said}"):
        consolidate(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_bases_own_tensors_beside_factors_change_nothing(whole: Path, tmp_path: Path) -> None:
    """As ``zero_to_fp32.py`` writes them without --exclude_frozen_parameters: all in fp32."""
    shutil.copytree(whole / "original", tmp_path / "job")
    base = torch.load(whole / "native/consolidated.pth", weights_only=True)
    factors = torch.load(whole / "original/lora.pt", weights_only=True)
    torch.save({**{f"module.{name}": t.float() for name, t in base.items()}, **factors}, tmp_path / "job/lora.pt")
    source = open_native(whole / "native")
    adapter = read_adapter(tmp_path / "job/lora.pt", PARAMS)
    assert adapter.rest.keys() == base.keys() and len(adapter.factors) == 7 * PARAMS.n_layers
    check_base(source, tmp_path / "job/lora.pt", adapter, {})
