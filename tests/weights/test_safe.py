"""safetensors headers that say what cannot be, and folders whose files say two things."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from callama.common.errors import CallamaError
from callama.weights.safe import open_safetensors, open_sharded


def entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS: dict[str, Any] = {
    "a broken number of rows": {"a": entry(shape=[2.0])},
    "broken offsets": {"a": entry(offsets=[0.0, 8.0])},
    "true for a number": {"a": entry(shape=[True, 2])},
    "one number for offsets": {"a": entry(offsets=[8])},
    "a word for a shape": {"a": entry(shape="2")},
    "a list for a type": {"a": entry(dtype=[1])},
    "two tensors in one place": {"a": entry(), "b": entry()},
    "two tensors that overlap": {"a": entry(), "b": entry(offsets=[4, 12])},
    "a list": [],
    "no entry": {"a": None},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_says_what_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    header = json.dumps(HEADERS[name]).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(CallamaError, match=r"a\.safetensors is damaged: its safetensors header cannot be read"):
        open_safetensors(path)


def test_a_file_beside_an_index_of_other_files_is_refused(tmp_path: Path) -> None:
    for name in ("model", "model-00001-of-00001"):
        save_file({"a": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    with pytest.raises(CallamaError, match=r"holds model\.safetensors and model\.safetensors\.index\.json.*two models"):
        open_sharded(tmp_path, "model", ".safetensors", open_safetensors)
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    assert open_sharded(tmp_path, "model", ".safetensors", open_safetensors).keys() == {"a"}
