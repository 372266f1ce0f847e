"""Indexes of torch's archives that no torch wrote: refused before memory is taken or a wrong place is read."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from callama.common.errors import CallamaError
from callama.weights.pth import open_pth


def write_archive(path: Path, index: bytes, numbers: bytes = b"") -> Path:
    """As ``torch.save`` lays it out, with any index."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("data.pkl", index), ("byteorder", b"little"), ("data/0", numbers), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", content)
    return path


class Storage:
    """64 numbers in fp32."""


class Placed:
    """Reduces to torch's call with any place in its storage."""

    def __init__(self, *place: Any) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (Storage(), *self.place, False, OrderedDict())


def index_of(place: tuple[Any, ...]) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 64) if isinstance(obj, Storage) else None

    found = io.BytesIO()
    Pickler(found, protocol=2).dump({"a": Placed(*place)})
    return found.getvalue()


def test_a_place_in_whole_numbers_is_read(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.pth", index_of((8, (2, 4), (4, 1))), torch.arange(64.0).numpy().tobytes())
    assert torch.equal(open_pth(path)["a"].whole(), torch.arange(8.0, 16).view(2, 4))


@pytest.mark.parametrize(
    "place",
    [
        (0, (8.0, 8.0), (8, 1)), (0, (8, 8), (8.0, 1.0)), (0.0, (8, 8), (8, 1)), (0, (-8, -8), (8, 1)),
        (0, (True,), (1,)), (0, "88", (8, 1)), (None, (8, 8), (8, 1)),
    ],
)  # fmt: skip
def test_a_place_in_other_numbers_is_refused(tmp_path: Path, place: tuple[Any, ...]) -> None:
    path = write_archive(tmp_path / "a.pth", index_of(place), bytes(256))
    with pytest.raises(CallamaError, match=r"a\.pth cannot be read .*: a tensor's place is not in whole numbers: \("):
        open_pth(path)


@pytest.mark.parametrize("put", [b"r" + (10**7).to_bytes(4, "little"), b"p10000000\n", b"p-1\n", b"q\x07"])
def test_a_pickle_that_numbers_more_objects_than_it_has_is_refused(tmp_path: Path, put: bytes) -> None:
    path = write_archive(tmp_path / "a.pth", b"\x80\x02}" + put + b".")
    tracemalloc.start()
    try:
        with pytest.raises(CallamaError, match=r"a\.pth cannot .*: it numbers an object \S+, but has only \d+ bytes"):
            open_pth(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_any_number_of_tensors_is_read(tmp_path: Path) -> None:
    """Beyond the 256 objects whose numbers have one byte."""
    state = {f"layers.{i}.norm.weight": torch.full((2,), float(i)) for i in range(500)}
    torch.save(state, tmp_path / "a.pth")
    found = open_pth(tmp_path / "a.pth")
    assert found.keys() == state.keys() and torch.equal(
        found["layers.499.norm.weight"].whole(), torch.full((2,), 499.0)
    )
