"""What keeps main memory from being frayed in a run on a CPU.

glibc keeps freed blocks of up to 32 MiB in its heap, in holes between those that stay. Tensors of many sizes come and
go in a run, and what is small and stays between them makes holes that fit nothing: the process grows, and looking
through them takes ever more time.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_MMAP_THRESHOLD = -3  # malloc.h
_BYTES = 1 << 20
_PRIMITIVES = 256


def keep_few_primitives() -> None:
    """oneDNN keeps what it prepared for the latest 1,024 shapes, for each in small blocks that stay. Only a micro-batch
    comes back to its own, and for the demo's 64 were enough. It heeds this until it is first used, and what the
    user has set counts."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_PRIMITIVES))


def give_back_freed_memory() -> None:
    """From here on blocks of a MiB and more are mapped one by one and unmapped when freed, for a run that is to take
    little memory (running blocks again, the holes came to twice of what was in use). Asking the system for clean pages
    each time takes time. Nothing happens where malloc is not glibc's."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_THRESHOLD, _BYTES)
