"""Where a benchmark's figures go: ``benchmarks/results/NAME.json``, with what they were measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def cpu_name() -> str:
    """The processor's name, as Linux tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def record(name: str, figures: dict[str, Any], libraries: Sequence[str]) -> None:
    """Appends a run's figures, with versions, machine, load and date."""
    entry = {
        "benchmark": name, **figures, "versions": {library: version(library) for library in libraries},
        "machine": f"{cpu_name()}, {os.cpu_count()} cores", "load_average": os.getloadavg()[0],
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    file = RESULTS / f"{name}.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    file.write_text(json.dumps([*known, entry], indent=2) + "\n", encoding="utf-8")
