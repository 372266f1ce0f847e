"""The notebook runs from top to bottom on a small built data set, and is committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests import tiny

NOTEBOOK = Path(__file__).resolve().parents[1] / "ideas" / "analyze_dataset.ipynb"


@pytest.mark.slow
def test_the_notebook_looks_at_a_built_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_all(tmp_path)
    monkeypatch.setenv("CALLAMA_DATASET", str(tmp_path / "built"))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(NOTEBOOK.parent))
    shown = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    for words in (
        "40 records read, 40 kept, 0 dropped",
        "near_duplicate_pairs_across",
        "get_weather",
        "<svg",
        "supervised share",
    ):
        assert words in shown, words
    assert "<h3>train</h3>" in shown and "&lt;" not in shown.replace("&lt; 0.1 %", "").partition("<pre>")[0]


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
