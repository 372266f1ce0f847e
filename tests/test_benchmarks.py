"""Every benchmark starts as its docstring says: ``python -m benchmarks.NAME`` from the repository's root."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import record

ROOT = Path(__file__).parents[1]
PROGRAMS = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in path.read_text()}
BESIDE_PEERS = {"train_set_peers"}  # started by train_set with the Python of the peers' environment


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - BESIDE_PEERS))
def test_a_benchmark_starts_by_the_command_that_its_docstring_shows(name: str) -> None:
    shown = re.search(r"^    python -m (benchmarks\.\S+)", PROGRAMS[name].read_text(), re.MULTILINE)
    assert shown and shown[1] == f"benchmarks.{name}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", shown[1], "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_one_another_as_a_package(path: Path) -> None:
    """Also inside functions, which ``--help`` does not run."""
    siblings = {other.stem for other in path.parent.glob("*.py")}
    imports = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    assert not [node.module for node in imports if node.module in siblings]


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - BESIDE_PEERS))
def test_every_benchmark_records_in_the_same_way(name: str) -> None:
    """Versions, machine, load and date stand in one place, so that all results have them."""
    text = PROGRAMS[name].read_text(encoding="utf-8")
    assert len(re.findall(rf"^ +record\(\"{name}\", ", text, re.MULTILINE)) == 1
    assert not re.search(r"RESULTS|datetime|platform\.", text)


def test_a_record_joins_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    for figure in (1, 2):
        record.record("a", {"figure": figure}, ("torch",))
    entries = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [(entry["benchmark"], entry["figure"]) for entry in entries] == [("a", 1), ("a", 2)]
    assert all({"versions", "machine", "load_average", "date"} < entry.keys() for entry in entries)


@pytest.mark.parametrize("path", sorted(record.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_results_are_lists_of_dated_entries(path: Path) -> None:
    assert path.stem in PROGRAMS
    assert all({"machine", "date"} < entry.keys() for entry in json.loads(path.read_text(encoding="utf-8")))
