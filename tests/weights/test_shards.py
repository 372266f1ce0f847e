"""Parts of a DeepSpeed checkpoint that are damaged, a stranger's, or of one process twice: refused with the reason."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from callama.common.errors import CallamaError, UsageError
from callama.weights.convert import convert
from callama.weights.shards import consolidate, consolidated, load_shard
from tests.model.tiny import LLAMA_3

SHAPE = torch.Size([3, 2])


def write_job(folder: Path, stage: int = 2, shapes: Any = None, count: Any = None, **first: Any) -> Path:
    """Six numbers in two parts, as DeepSpeed writes them; ``first`` changes the first part."""
    folder.mkdir(exist_ok=True)
    key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
    for rank in range(2):
        numbers = [torch.arange(3.0) + 3 * rank]
        state = {"zero_stage": stage, "partition_count": [2] if count is None else count, key: numbers}
        path = folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": {**state, **(first if rank == 0 else {})}}, path)
    groups = [OrderedDict(w=SHAPE)] if shapes is None else shapes
    torch.save({"param_shapes": groups}, folder / "mp_rank_00_model_states.pt")
    return folder


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_parts_are_put_together(tmp_path: Path, stage: int) -> None:
    found = consolidated(write_job(tmp_path, stage))
    assert found.keys() == {"w"} and torch.equal(found["w"], torch.arange(6.0).view(SHAPE))


def test_parts_where_an_adapter_is_wanted_are_named_as_such(tmp_path: Path) -> None:
    write_job(tmp_path / "job")
    for name, settings in (("lora.json", {"lora_rank": 2}), ("params.json", LLAMA_3.to_meta())):
        (tmp_path / "job" / name).write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=r"adapter in parts: put it together with callama consolidate .*job OUT"):
        convert(tmp_path / "job", tmp_path / "out", "peft")


def test_a_place_where_nothing_is_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, found in (("none", "does not exist"), ("file", "is a file")):
        with pytest.raises(UsageError, match=rf"{name} {found}; expected a DeepSpeed checkpoint's folder"):
            consolidate(tmp_path / name, tmp_path / "out")


WRONG: dict[str, dict[str, Any]] = {
    "names for shapes": {"shapes": ["x"]},
    "numbers for shapes": {"shapes": [3]},
    "a tuple for a shape": {"shapes": [{"w": (3, 2)}]},
    "no groups": {"shapes": ()},
    "a larger shape": {"shapes": [{"w": torch.Size([30, 2])}]},
    "no count": {"count": []},
    "a word for the count": {"count": "2"},
    "a word in the count": {"count": ["2"]},
    "a number for the parts": {"single_partition_of_fp32_groups": 3},
    "numbers for tensors": {"single_partition_of_fp32_groups": [3]},
    "a smaller shape": {"shapes": [{"w": torch.Size([1, 2])}]},
    "another run's groups": {"shapes": [{"w": SHAPE}, {"v": SHAPE}]},
    "more groups": {"single_partition_of_fp32_groups": [torch.ones(3), torch.ones(3)]},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_as_deepspeed_writes_it_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CallamaError, match=r"is the copy complete|as DeepSpeed 0\.19 writes it") as caught:
        consolidated(write_job(tmp_path, **WRONG[name]))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("stage", [2, 3])
def test_a_part_that_is_there_twice_is_noticed(tmp_path: Path, stage: int) -> None:
    first, second = sorted(write_job(tmp_path, stage).glob("*_optim_states.pt"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(CallamaError, match="processes 0 and 1 have the same part; is one file a copy"):
        consolidated(tmp_path)


def test_parts_of_zeros_are_no_copies(tmp_path: Path) -> None:
    write_job(tmp_path)
    for path in tmp_path.glob("*_optim_states.pt"):
        state = torch.load(path, weights_only=True)
        state["optimizer_state_dict"]["single_partition_of_fp32_groups"] = [torch.zeros(3)]
        torch.save(state, path)
    assert not consolidated(tmp_path)["w"].any()


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_part_is_named_and_not_run(tmp_path: Path) -> None:
    torch.save({"a": Touch(tmp_path / "it ran")}, tmp_path / "a.pt")
    with pytest.raises(CallamaError, match=r"refers to \S+, which no part needs") as caught:
        load_shard(tmp_path / "a.pt")
    assert "weights_only" not in str(caught.value) and not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02\xff", b"\x80\x02]q\x00R.", pickle.dumps(1)[:-1], b"\x80\x02N\x85R."]
)
def test_a_pickle_that_is_damaged_with_the_right_checksum_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    torch.save({}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(path, "w") as archive:
        for info in whole.infolist():
            archive.writestr(info.filename, content if info.filename.endswith("data.pkl") else whole.read(info))
    with pytest.raises(
        CallamaError, match=r"a\.pt cannot be read as a part of a DeepSpeed checkpoint: \w.*damaged \(\w+"
    ):
        load_shard(path)
