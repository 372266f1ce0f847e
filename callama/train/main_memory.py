"""How much main memory a process may still take: what the machine has free, or less where a container, a job or a
service has a limit of its own (cgroups: docs.kernel.org/admin-guide/cgroup-v2.html, and cgroup-v1/memory.html)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def resident_bytes() -> int:
    """What this process has in main memory now; 0 where the system does not say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.is_file() else 0


def free_bytes(root: Path = _ROOT) -> int:
    """What all processes of the machine, or of what limits this one, may still take together."""
    path = root / "proc/meminfo"
    lines = path.read_text().splitlines() if path.is_file() else []
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), physical)
    return min([free, *_left_of_limits(root)])


def _left_of_limits(root: Path) -> Iterator[int]:
    """Of each limit above this process. Within a container the path may be that of the machine, and not be there:
    then it is the container's own, at the top."""
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top, limits, used, prefix = groups, ["memory.max", "memory.high"], "memory.current", ""
        elif "memory" in controllers.split(","):
            top, limits, used, prefix = groups / "memory", ["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_"
        else:
            continue
        below = top / path.strip("/")
        for folder in (below, *below.parents):
            for limit in limits:
                if (most := _number(folder / limit)) is not None and (taken := _number(folder / used)) is not None:
                    yield max(0, most - max(0, taken - _cached(folder / "memory.stat", prefix)))
            if folder == top:
                break


def _number(path: Path) -> int | None:
    """None where the file is not there or says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cached(path: Path, prefix: str) -> int:
    """Pages of files, which are counted as used and given up when memory is wanted."""
    try:
        fields = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    names = (f"{prefix}inactive_file", f"{prefix}active_file")
    return sum(int(field[1]) for field in fields if len(field) == 2 and field[0] in names)
