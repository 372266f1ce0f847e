"""Checking a folder against its manifest: nothing missing, nothing changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from callama.common.errors import CallamaError, UsageError
from callama.common.files import MANIFEST, read_manifest
from callama.common.progress import Meter

_BLOCK_BYTES = 8 << 20


class Verified(NamedTuple):
    """How many files and bytes are as the manifest says, and what lies beside them."""

    files: int
    nbytes: int
    extra: list[str]


def verify_folder(folder: Path) -> Verified:
    """Reads every file that a manifest names.

    Raises:
        UsageError: there is no manifest.
        CallamaError: files are missing or changed, naming all of them.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is neither a folder nor a file; expected what callama wrote")
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder} has no {MANIFEST}; only folders that callama wrote can be verified")
    files = read_manifest(folder).get("files")
    if (
        not files
        or not isinstance(files, Mapping)
        or not all(
            isinstance(entry, Mapping) and isinstance(entry.get("sha256"), str) and isinstance(entry.get("bytes"), int)
            for entry in files.values()
        )
    ):
        raise CallamaError(f"{folder / MANIFEST} has no list of files with sha256 and bytes; it is damaged")
    total, wrong = sum(entry["bytes"] for entry in files.values()), []
    with Meter("verifying", total, "bytes") as meter:
        for name, entry in files.items():
            if said := _difference(folder / name, entry, meter):
                wrong.append(f"{name} {said}")
    if wrong:
        raise CallamaError(f"{folder} is not what its {MANIFEST} says: {'; '.join(wrong)}")
    found = (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file())
    return Verified(len(files), total, [name for name in found if name not in files and name != MANIFEST])


def _difference(path: Path, entry: Mapping[str, object], meter: Meter) -> str:
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != entry["bytes"]:
        return f"has {size:,} bytes instead of {entry['bytes']:,}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            meter.advance(len(block))
    return "" if digest.hexdigest() == entry["sha256"] else "has other content"
