"""Main memory that is freed goes back to the system at once, where a run is to take little of it.

glibc keeps freed blocks of up to 32 MiB in its heap, in holes between those that stay. Running blocks again frees and
takes tensors of many sizes, and the holes came to twice of what was in use.
"""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # malloc.h
_BYTES = 1 << 20


def give_back_freed_memory() -> None:
    """From here on blocks of a MiB and more are mapped one by one and unmapped when freed; asking the system for
    clean pages each time takes time. Nothing happens where malloc is not glibc's."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_THRESHOLD, _BYTES)
