"""The gates of ``make lint``, so that a test run alone finds what they find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
GATES = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy --strict": ["mypy"],
    "import floors": ["lint-imports"],
}


@pytest.mark.slow
@pytest.mark.parametrize("gate", GATES)
def test_gate(gate: str) -> None:
    program, *arguments = GATES[gate]
    command = [str(BIN / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["callama", "scripts"])
def test_no_file_above_400_lines(package: str) -> None:
    long = {p: n for p in (REPO / package).rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long
