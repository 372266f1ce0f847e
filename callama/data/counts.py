"""What a number of rows hold, counted batch by batch: for the metadata of a build and for looking at data."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute

from callama.contract.spans import Kind

PERCENTILES = {"min": 0, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "max": 100}


@dataclass
class Counts:
    """``functions`` counts the conversations that show a function, ``answers`` and ``kinds`` answers and tokens."""

    lengths: array[int] = field(default_factory=lambda: array("i"))
    supervised: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    scenarios: Counter[str] = field(default_factory=Counter)
    cut_conversations: int = 0
    cut_tokens: int = 0

    def add(self, rows: Any) -> None:
        """Counts a record batch that has the data set's columns."""
        self.lengths.frombytes(pyarrow.compute.list_value_length(rows["input_ids"]).to_numpy().tobytes())
        self.supervised += rows["supervised"].flatten().true_count
        by_kind = np.bincount(rows["kinds"].flatten().to_numpy(), minlength=len(Kind))
        self.kinds.update({kind.name.lower(): int(by_kind[kind]) for kind in Kind})
        self.functions.update(rows["functions"].flatten().to_pylist())
        self.answers.update(rows["answers"].flatten().to_pylist())
        self.scenarios.update(filter(None, rows["scenario"].to_pylist()))
        cut = rows["cut_tokens"].to_numpy()
        self.cut_conversations += int((cut > 0).sum())
        self.cut_tokens += int(cut.sum())

    def report(self) -> dict[str, Any]:
        """The counts as they stand in ``metadata.json``."""
        marks = np.percentile(self.lengths or [0], list(PERCENTILES.values())).astype(int).tolist()
        return {
            "conversations": len(self.lengths),
            "tokens": sum(self.lengths),
            "supervised_tokens": self.supervised,
            "tokens_by_kind": {kind.name.lower(): self.kinds[kind.name.lower()] for kind in Kind},
            "length_tokens": dict(zip(PERCENTILES, marks, strict=True)),
            "cut": {"conversations": self.cut_conversations, "tokens": self.cut_tokens},
            "functions": len(self.functions),
            "answers": dict(sorted(self.answers.items())),
            "scenarios": dict(sorted(self.scenarios.items())),
        }
