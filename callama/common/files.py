"""Files that are whole or absent.

Everything callama writes goes to a temporary neighbour first and is renamed when complete; a
folder gets its ``MANIFEST.json`` (checksums of every file, plus facts about the whole) last of all.
A killed process or a full disk leaves the destination as it was. Links are followed: what is
replaced is the file or folder they lead to.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from callama import __version__
from callama.common.errors import CallamaError, UsageError
from callama.common.signals import held

MANIFEST = "MANIFEST.json"
_BLOCK_BYTES = 8 << 20
_NEIGHBOUR = re.compile(r"\.(.+)\.\d+-[0-9a-f]{8}\.tmp")


def require_file(path: Path, what: str) -> Path:
    """The path, if a file is there.

    Raises:
        UsageError: nothing or a folder is there; ``what`` says what should be.
        CallamaError: it may not be read.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is a pipe or device" if path.exists() else "does not exist"
        raise UsageError(f"{path} {found}; expected {what}")
    try:
        path.open("rb").close()
    except PermissionError:
        raise CallamaError(f"no permission to read {path}; expected {what}: change its rights") from None
    return path


def read_json(path: Path, what: str) -> Any:
    """Reads a JSON file.

    Raises:
        UsageError: the file is missing.
        CallamaError: it is not JSON, with line and column, or holds a number of thousands of digits.
    """
    require_file(path, what)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CallamaError(f"{path} is not JSON ({why_no_json(error)}); expected {what}") from None


def why_no_json(error: Exception) -> str:
    """What kept a file's content from being read as JSON, in words for its user."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text"
    # Python reads no longer ones, and says so in words for programmers.
    long = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError)
    return f"it holds a number of more than {sys.get_int_max_str_digits():,} digits" if long else str(error)


class Checksums(NamedTuple):
    """Of a file's bytes, in hexadecimal. sha256 says that two files are the same; CRC-32 takes a third of the time and
    finds what was damaged, so that it can be asked for whenever a file is read; None where a file has them inside.
    Of such a file ``index_crc32`` is one over the list of them, by which a file is told from another whole one."""

    sha256: str
    crc32: str | None
    index_crc32: str | None = None


def checksums_of(path: Path) -> Checksums:
    """Both checksums of a file."""
    with path.open("rb") as file:
        sha256, crc32 = hashlib.file_digest(file, "sha256").hexdigest(), 0
        file.seek(0)
        while block := file.read(_BLOCK_BYTES):
            crc32 = zlib.crc32(block, crc32)
    return Checksums(sha256, f"{crc32:08x}")


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashingFile:
    """A new binary file that is written front to back and knows the checksums of what went in, so that
    large files need not be read again for their manifest. Hashing runs beside the copying, and what comes before
    the next block."""

    def __init__(self, path: Path, *, with_crc32: bool) -> None:
        self._file = path.open("wb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._crc32 = 0 if with_crc32 else None
        self._hasher = ThreadPoolExecutor(1)
        self._hashed: Future[None] | None = None
        self._position = 0

    def write(self, data: bytes | memoryview) -> int:
        """Appends; a system that takes less than all of it at once is asked again. The bytes must stay as they are."""
        view, done = memoryview(data).cast("B"), 0
        self._wait()
        self._hashed = self._hasher.submit(self._hash, view)
        while done < len(view):
            done += self._file.write(view[done : done + (1 << 30)]) or 0
        self._position += done
        return done

    def _hash(self, view: memoryview) -> None:
        self._sha256.update(view)
        if self._crc32 is not None:
            self._crc32 = zlib.crc32(view, self._crc32)

    def _wait(self) -> None:
        if self._hashed is not None:
            self._hashed.result()

    def tell(self) -> int:
        """Bytes written so far."""
        return self._position

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Ends the file."""
        self._hasher.shutdown()
        self._file.close()

    @property
    def checksums(self) -> Checksums:
        """Of what was written."""
        self._wait()
        return Checksums(self._sha256.hexdigest(), None if self._crc32 is None else f"{self._crc32:08x}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Says in a sentence what kept ``path`` from being written; other errors pass."""
    try:
        yield
    except Exception as error:
        # Libraries in other languages may raise errors of their own, with the system's words.
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(error):
            raise CallamaError(
                f"the disk is full while writing {_meant(path)}; free some space and run again"
            ) from None
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise CallamaError(
                f"{path} is larger than files may be here (ulimit -f, or the file system's limit); choose another place"
            ) from None
        # The block may also fail to read something elsewhere: that is not about this place.
        named = Path(error.filename) if isinstance(error, OSError) and isinstance(error.filename, str) else None
        if named is None or not (named == path or path.parent in named.parents or named in path.parents):
            raise
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
            raise CallamaError(f"no permission to write {path}; choose another place or change its rights") from None
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            raise UsageError(f"{path} cannot be written: its folder cannot be made there") from None
        if isinstance(error, NotADirectoryError | FileExistsError):
            raise UsageError(f"{path} cannot be written: {named} is a file, not a folder") from None
        raise


def name_of(path: Path) -> str:
    """What a file or folder is called, in text that every format can hold: ``.`` by its folder's name, and � for bytes
    that are not UTF-8."""
    return os.fsencode(Path(os.path.normpath(Path.cwd() / path)).name).decode("utf-8", "replace")


def _neighbour(path: Path) -> Path:
    # File systems take names of 255 bytes, and a character has up to four.
    return path.with_name(f".{path.name[:50]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _meant(path: Path) -> Path:
    """The same place by the name that it is to have."""
    return Path(*(_NEIGHBOUR.sub(r"\1", part) for part in path.parts))


@contextlib.contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Makes the folders above ``path``; those that were not there go again if the block fails."""
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: somebody else uses it by now
            for folder in missing:
                folder.rmdir()
        raise


def _is_mount(path: Path) -> bool:
    """Whether a file system begins here; one that is part of another (a bind mount) stands only in Linux's list."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return os.path.ismount(path)
    name = re.sub(rb"[ \t\n\\\\]", lambda m: b"\\%03o" % m[0][0], os.fsencode(path))
    return any(line.split()[4] == name for line in lines)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; it takes the place of ``path`` when the block ends well.

    Raises:
        UsageError: ``path`` is a folder or device, or a file stands where its folder should be.
        CallamaError: the disk is full or writing is not allowed.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is {'a folder' if path.is_dir() else 'a device'}; expected a file to write")
    temporary = _neighbour(path)
    with disk_errors(path), _parents(path):
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Makes sure that files can be written into a folder, before long work depends on it.

    Raises:
        UsageError: a file stands in its place, or writing is not allowed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to ({error.strerror}); choose another place") from None


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically.

    Raises:
        CallamaError: the value holds NaN or infinity, which JSON cannot say.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise CallamaError(f"{path} cannot be written as JSON: {error}") from None
    with atomic_file(path) as temporary:
        # A path's bytes that are not UTF-8 are lone surrogates in Python, and in JSON an escape.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def atomic_folder(
    path: Path, facts: Mapping[str, Any], checksums: Mapping[str, Checksums] | None = None
) -> Iterator[Path]:
    """Yields a temporary folder beside ``path``; when the block ends well it gets its manifest and
    replaces ``path``, in one step where the system can. ``checksums``, which the block may fill,
    are those of files that need not be read again for it.

    Raises:
        UsageError: ``path`` is a file, or a folder with files that callama did not write.
        CallamaError: the disk is full or writing is not allowed.
    """
    path = Path(os.path.realpath(path))
    require_replaceable(path)
    temporary = _neighbour(path)
    with disk_errors(path), _parents(path):
        temporary.mkdir()
        try:
            yield temporary
            _write_manifest(temporary, facts, checksums or {})
            require_replaceable(path)
            with held():
                if path.exists():
                    _swap(temporary, path)
                else:
                    temporary.replace(path)
                _sync(path.parent)
                shutil.rmtree(temporary, ignore_errors=True)  # the old one
        finally:
            with held():
                shutil.rmtree(temporary, ignore_errors=True)


def require_replaceable(path: Path) -> None:
    """Makes sure that ``atomic_folder`` may put its folder here.

    Raises:
        UsageError: a file stands there, or a folder with files that callama did not write.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path} is a file; expected a folder to write")
    if _is_mount(path):
        raise UsageError(f"{path} is where a disk is mounted, which cannot be replaced; name a folder inside it")
    if Path.cwd().is_relative_to(path.resolve()):
        raise UsageError(f"{path} is where you are, and would be replaced under you; name a new folder")
    # macOS puts a .DS_Store into every folder that was looked at.
    found = [p for p in path.rglob("*") if (p.is_symlink() or not p.is_dir()) and p.name != ".DS_Store"]
    there = {p.relative_to(path).as_posix() for p in found} - {MANIFEST}
    if there and not (path / MANIFEST).is_file():
        raise UsageError(f"{path} holds files without a {MANIFEST}; choose an empty or new folder")
    manifest = read_manifest(path)
    if (path / MANIFEST).is_file() and "callama" not in manifest:
        raise UsageError(f"{path} holds a {MANIFEST} that callama did not write; choose an empty or new folder")
    ours = manifest.get("files")
    if foreign := sorted(there - set(ours if isinstance(ours, dict) else ())):
        raise UsageError(
            f"{path} holds {foreign[0]}, which is not in its {MANIFEST}; "
            "move what you want to keep, or choose a new folder"
        )


def _swap(new: Path, old: Path) -> None:
    """Exchanges two folders. Linux can in one step (renameat2 with RENAME_EXCHANGE); elsewhere a
    failure between the two renames puts the old one back."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    at_cwd, exchange = -100, 2
    if renameat2 is not None and renameat2(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange) == 0:
        return
    aside = _neighbour(old)
    old.replace(aside)
    try:
        new.replace(old)
    except BaseException:
        aside.replace(old)
        raise
    aside.replace(new)


def _write_manifest(folder: Path, facts: Mapping[str, Any], checksums: Mapping[str, Checksums]) -> None:
    files = {}
    for entry in sorted(folder.rglob("*")):
        _sync(entry)
        if entry.is_file() and entry != folder / MANIFEST:
            name = entry.relative_to(folder).as_posix()
            known = checksums.get(name) or checksums_of(entry)
            sums = {kind: value for kind, value in known._asdict().items() if value is not None}
            files[name] = {**sums, "bytes": entry.stat().st_size}
    write_json(folder / MANIFEST, {"callama": __version__, **facts, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The facts of a folder's manifest; empty where there is none (a folder of another tool)."""
    path = folder / MANIFEST
    manifest = read_json(path, "a manifest") if path.is_file() else {}
    if not isinstance(manifest, dict):
        raise CallamaError(f"{path} is not a JSON object; expected a manifest written by callama")
    try:
        json.dumps(manifest, allow_nan=False)
    except ValueError:
        raise CallamaError(f"{path} holds NaN or infinity, which callama never writes; put numbers there") from None
    return manifest
