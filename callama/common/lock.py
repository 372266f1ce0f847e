"""One writer at a time: a lock on a folder that a process holds as long as it lives, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from callama.common.errors import UsageError

LOCK = ".lock"
_SHOWN_BYTES = 200


@contextmanager
def sole_writer(folder: Path, advice: str) -> Iterator[None]:
    """Makes the folder where it is missing and holds it, by flock on a file in it that goes with the block. Where
    nothing can be written or the file system knows no locks, goes on without; writing says what is wrong, if it is.

    Raises:
        UsageError: another process holds it; which one, and ``advice``.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    descriptor = _held(path, advice)
    try:
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)  # while it is held: who opened it before finds another file there, or none
            os.close(descriptor)
        with suppress(OSError):  # not empty, as it is to be
            for place in missing:
                place.rmdir()


def _held(path: Path, advice: str) -> int | None:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            raise UsageError(f"another run{_signed(descriptor)} writes into {path.parent}: {advice}") from None
        except FileNotFoundError:
            pass  # its holder ended and took it along
        except OSError:  # some network file systems
            os.close(descriptor)
            return None
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    with suppress(OSError):  # a full disk: the name of the holder is a kindness
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _signed(descriptor: int) -> str:
    try:
        text = os.pread(descriptor, _SHOWN_BYTES, 0).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)
    return f" ({text})" if text else ""


def is_running(pid: int) -> bool:
    """Whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
