"""The official verdicts on answers, from a process without our modules, packages, environment or time without end."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError

# Twice what the worker gives a job, and what it takes to begin.
TIMEOUT_SECONDS, JOB_SECONDS = 600, 10


class Checker:
    """The process, for as long as the block lasts."""

    def __init__(self, wheel: Path) -> None:
        """Starts it with BFCL's ``wheel``.

        Raises:
            CallamaError: the one package that the simulated services need is missing.
        """
        worker = Path(__file__).with_name("worker.py")
        command = [sys.executable, "-I", "-S", str(worker), str(wheel.resolve()), str(_mpmath())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8", env={},
        )  # fmt: skip

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def check(self, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One answer a job, by its ``kind``:

        - ``calls`` → ``{"valid": bool, "error": str}``; a job has ``functions`` (as in the data), ``calls``
          (``[{name: arguments}]``), ``answer``, ``language`` and ``category``.
        - ``dialogue`` → the same; a job has ``entry`` (``id``, ``initial_config``, ``involved_classes``), ``turns``
          (of steps of calls with ``name`` and ``arguments``) and ``answer``.
        - ``run`` → ``{"results": [str]}`` of the last of ``steps``, ``None`` where limits ended it; a job has
          ``entry`` too.

        Raises:
            CallamaError: the process ended, or took too long.
        """
        process, late = self._process, threading.Event()
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None

        def end() -> None:
            late.set()
            process.kill()

        seconds = TIMEOUT_SECONDS + JOB_SECONDS * len(jobs)
        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            process.stdin.write(json.dumps(jobs) + "\n")
            process.stdin.flush()
            answers = json.loads(process.stdout.readline())
        except (ValueError, BrokenPipeError):
            if late.is_set():
                told = f"BFCL's checker took more than {seconds} seconds for {len(jobs)} cases"
                raise CallamaError(told) from None
            said = process.stderr.read().strip().splitlines()[-1:] or ["nothing"]
            raise CallamaError(f"BFCL's checker ended with status {process.wait()}, saying {said[0]}") from None
        finally:
            timer.cancel()
        return list(answers)


def check(wheel: Path, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers to all jobs, from a process for them alone; see ``Checker``."""
    if not jobs:
        return []
    with Checker(wheel) as checker:
        return checker.check(jobs)


def _mpmath() -> Path:
    """The folder of the one package that BFCL's services need; torch needs it too, through sympy."""
    spec = importlib.util.find_spec("mpmath")
    if spec is None or spec.origin is None:
        raise CallamaError("BFCL's multi-turn services need mpmath: pip install 'mpmath<1.4'")
    return Path(spec.origin).parent
