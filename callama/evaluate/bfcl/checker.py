"""The official verdicts on answers, from a process without our modules, packages, environment or time without end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError

TIMEOUT_SECONDS = 300


def check(wheel: Path, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One ``{"valid": bool, "error": str}`` a job; a job has ``functions`` (as in the data), ``calls``
    (``[{name: arguments}]``), ``answer``, ``language`` and ``category``.

    Raises:
        CallamaError: the checker could not be run to its end.
    """
    worker = Path(__file__).with_name("worker.py")
    command = [sys.executable, "-I", "-S", str(worker), str(wheel.resolve())]
    try:
        done = subprocess.run(
            command, input=json.dumps(jobs), capture_output=True, text=True, encoding="utf-8", env={}, check=False,
            timeout=TIMEOUT_SECONDS,
        )  # fmt: skip
        verdicts = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise CallamaError(f"BFCL's checker took more than {TIMEOUT_SECONDS} seconds for {len(jobs)} cases") from None
    except ValueError:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise CallamaError(f"BFCL's checker ended with status {done.returncode}, saying {said[0]}") from None
    if len(verdicts) != len(jobs):
        raise CallamaError(f"BFCL's checker gave {len(verdicts)} verdicts on {len(jobs)} cases")
    return list(verdicts)
