"""Files that are whole or absent.

Everything callama writes goes to a temporary neighbour first and is renamed when complete; a
folder gets its ``MANIFEST.json`` (sha256 of every file, plus facts about the whole) last of all.
A killed process or a full disk leaves the destination as it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from callama import __version__
from callama.common.errors import CallamaError, UsageError

MANIFEST = "MANIFEST.json"


def require_file(path: Path, what: str) -> Path:
    """The path, if a file is there.

    Raises:
        UsageError: nothing or a folder is there; ``what`` says what should be.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"{path} {found}; expected {what}")
    return path


def read_json(path: Path, what: str) -> Any:
    """Reads a JSON file.

    Raises:
        UsageError: the file is missing.
        CallamaError: it is not JSON, with line and column.
    """
    require_file(path, what)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CallamaError(f"{path} is not JSON ({error}); expected {what}") from None


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise CallamaError(f"the disk is full while writing {path}; free some space and run again") from None
        if isinstance(error, PermissionError):
            raise CallamaError(f"no permission to write {path}; choose another place or change its rights") from None
        raise


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; it takes the place of ``path`` when the block ends well."""
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(path: Path, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Yields a temporary folder beside ``path``; when the block ends well it gets its manifest and
    replaces ``path``.

    Raises:
        UsageError: ``path`` is a file, or a folder with files that callama did not write.
    """
    if path.is_file():
        raise UsageError(f"{path} is a file; expected a folder to write")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise UsageError(f"{path} holds files without a {MANIFEST}; choose an empty or new folder")
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield temporary
            _write_manifest(temporary, facts)
            temporary.chmod(0o755)
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
                os.replace(path, old / path.name)
                os.replace(temporary, path)
                shutil.rmtree(old)
            else:
                os.replace(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    files = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        _sync(file)
        files[file.relative_to(folder).as_posix()] = {"sha256": sha256_file(file), "bytes": file.stat().st_size}
    write_json(folder / MANIFEST, {"callama": __version__, **facts, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The facts of a folder's manifest; empty where there is none (a folder of another tool)."""
    path = folder / MANIFEST
    manifest = read_json(path, "a manifest") if path.is_file() else {}
    if not isinstance(manifest, dict):
        raise CallamaError(f"{path} is not a JSON object; expected a manifest written by callama")
    return manifest
