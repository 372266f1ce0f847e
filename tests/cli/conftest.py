"""Runs callama and the root scripts: in a process of their own, as a user does, or in this one, which
spares importing torch anew for each call."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from callama.cli.main import main
from tests import tiny

REPO = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
_ENTRY = "from callama.cli.main import main; main()"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run("callama", …)`` or ``run("finetune.py", …)`` in the test's folder, on one thread."""

    def runner(what: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        program = ["-c", _ENTRY] if what == "callama" else [str(REPO / what)]
        command = [sys.executable, *program, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", "COLUMNS": "110"}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=240, check=False
        )

    return runner


class Done(NamedTuple):
    """What a command that ran in this process left behind."""

    status: int
    out: str
    err: str

    @property
    def last_json(self) -> Any:
        """The last line of standard output, as JSON."""
        return json.loads(self.out.splitlines()[-1])


RunHere = Callable[..., Done]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> RunHere:
    """Like ``run``, within this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")

    def runner(what: str, *arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", [what, *map(str, arguments)])
        capsys.readouterr()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as exit_:
            if what == "callama":
                main()
            else:
                runpy.run_path(str(REPO / what), run_name="__main__")
        for number, handler in before.items():
            signal.signal(number, handler)
        return Done(int(exit_.value.code or 0), *capsys.readouterr())

    return runner


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, conversations and built data set; not to be changed."""
    return tiny.write_all(tmp_path_factory.mktemp("world"))
