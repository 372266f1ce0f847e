"""The built data set: Arrow files that memory-map, with a kind for every token.

Arrow's IPC file format opens in ``datasets``, polars and duckdb as it is, and costs no memory until
a row is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_json

METADATA = "metadata.json"
_METADATA_KEYS = {
    "contract_version", "dialect", "markup", "tokenizer_file", "tokenizer_sha256", "sources", "seed", "train_on",
    "max_tokens", "read", "dropped", "split", "leakage",
}  # fmt: skip
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("kinds", pa.list_(pa.int8())),
        ("supervised", pa.list_(pa.bool_())),
        ("functions", pa.list_(pa.string())),
        ("scenario", pa.string()),
        ("source", pa.int64()),
        ("answers", pa.list_(pa.string())),
        ("cut_tokens", pa.int32()),
        ("opening_tokens", pa.int32()),
        ("opening_hash", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Example:
    """One conversation as tokens; the three arrays have its length. ``source`` is its record number,
    ``answers`` the kind of each answer (``example.answer_kind``), ``cut_tokens`` what its end lost to
    the limit of tokens; the first ``opening_tokens`` ids are the system's turn."""

    input_ids: NDArray[np.int32]
    kinds: NDArray[np.int8]
    supervised: NDArray[np.bool_]
    functions: tuple[str, ...] = ()
    scenario: str = ""
    source: int = -1
    answers: tuple[str, ...] = ()
    cut_tokens: int = 0
    opening_tokens: int = 0

    @property
    def opening_hash(self) -> int:
        """Equal for equal openings."""
        opening = self.input_ids[: self.opening_tokens].tobytes()
        return int.from_bytes(hashlib.blake2b(opening, digest_size=8).digest(), "little", signed=True)


def record_batch(examples: Sequence[Example]) -> Any:
    """Examples as one Arrow record batch of ``SCHEMA``."""
    columns = [[getattr(example, name) for example in examples] for name in SCHEMA.names]
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def read_metadata(path: Path) -> dict[str, Any]:
    """What a build wrote about its data set.

    Raises:
        UsageError: the file is missing.
        CallamaError: it is damaged, or another tool's.
    """
    metadata = read_json(path, "a built data set's metadata")
    lacking = _METADATA_KEYS - metadata.keys() if isinstance(metadata, dict) else _METADATA_KEYS
    if lacking:
        raise CallamaError(f"{path} has no {sorted(lacking)[0]!r}: it is not of a build; build the data set again")
    if not isinstance(metadata["dropped"], dict) or not all(isinstance(n, int) for n in metadata["dropped"].values()):
        raise CallamaError(
            f"{path}: 'dropped' must count by reason, found {str(metadata['dropped'])[:60]}; build again"
        )
    return dict(metadata)


class Dataset:
    """Random access to a built file."""

    def __init__(self, path: Path) -> None:
        """Opens ``path``, a ``train.arrow`` or ``validation.arrow``.

        Raises:
            UsageError: nothing there, or a pickle of the original project.
            CallamaError: not an Arrow file of this schema.
        """
        if path.suffix in (".pk", ".pkl"):
            raise UsageError(
                f"{path}: pickled data sets are not opened, because a pickle can run code; "
                f"build it again with scripts/build_dataset.py and name {path.with_suffix('.arrow').name}"
            )
        if not path.is_file():
            raise UsageError(f"{path} does not exist; build it with 'callama build' or scripts/build_dataset.py")
        try:
            self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise CallamaError(f"{path} is not a data set built by callama ({error})") from None
        if not set(SCHEMA.names) <= set(self._table.schema.names):
            raise CallamaError(
                f"{path} has columns {self._table.schema.names}; expected {SCHEMA.names}: "
                "another tool wrote it, or an earlier callama (then build it again)"
            )
        self.path = path
        lengths = pa.compute.list_value_length(self._table["input_ids"])
        self.lengths: NDArray[np.int64] = lengths.to_numpy().astype(np.int64)
        self.opening_tokens: NDArray[np.int64] = self._table["opening_tokens"].to_numpy().astype(np.int64)
        self.opening_hashes: NDArray[np.int64] = self._table["opening_hash"].to_numpy()
        metadata = path.parent / METADATA
        self.metadata = read_metadata(metadata) if metadata.is_file() else {}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def batches(self) -> Iterator[Any]:
        """The rows as Arrow record batches."""
        return iter(self._table.to_batches())

    def __getitem__(self, index: int) -> Example:
        def values(name: str) -> Any:
            return self._table[name][index].values.to_numpy(zero_copy_only=False)

        return Example(
            values("input_ids"),
            values("kinds"),
            values("supervised"),
            tuple(self._table["functions"][index].as_py()),
            self._table["scenario"][index].as_py(),
            self._table["source"][index].as_py(),
            tuple(self._table["answers"][index].as_py()),
            self._table["cut_tokens"][index].as_py(),
            self._table["opening_tokens"][index].as_py(),
        )
