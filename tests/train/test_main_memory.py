"""A limit of a container counts as much as the memory of the machine. The files are written as the kernel does."""

from __future__ import annotations

from pathlib import Path

import pytest

from callama.train import estimate as estimate_module
from callama.train.estimate import estimate
from callama.train.main_memory import free_bytes
from tests.train.conftest import Configure

GIB = 2**30
V2, V1 = "0::/job/step\n", "5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n"
STAT = f"anon 7\ninactive_file {GIB // 2}\nactive_file {GIB // 2}\n"


def machine(root: Path, cgroup: str | None, files: dict[str, str | int]) -> Path:
    """One with 8 GiB available."""
    all_files = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:  {8 << 20} kB\n"}
    all_files |= {f"sys/fs/cgroup/{name}": f"{value}\n" for name, value in files.items()}
    if cgroup is not None:
        all_files["proc/self/cgroup"] = cgroup
    for name, text in all_files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "gib"),
    [
        (None, {}, 8),
        (V2, {"job/step/memory.max": "max", "job/step/memory.current": GIB}, 8),
        (V2, {"job/step/memory.max": 4 * GIB, "job/step/memory.current": GIB}, 3),
        (V2, {"job/step/memory.max": 4 * GIB, "job/step/memory.current": 2 * GIB, "job/step/memory.stat": STAT}, 3),
        (V2, {"job/step/memory.high": 2 * GIB, "job/step/memory.max": 4 * GIB, "job/step/memory.current": GIB}, 1),
        (V2, {"job/memory.max": 5 * GIB, "job/memory.current": GIB}, 4),  # a limit of the whole job
        ("0::/\n", {"memory.max": 4 * GIB, "memory.current": GIB}, 3),  # within a container
        (V2, {"memory.max": 4 * GIB, "memory.current": 6 * GIB}, 0),
        (V2, {"memory.max": 40 * GIB, "memory.current": GIB}, 8),
        (V1, {"memory/docker/abc/memory.limit_in_bytes": 4 * GIB, "memory/docker/abc/memory.usage_in_bytes": GIB}, 3),
        (V1, {"memory/memory.limit_in_bytes": 4 * GIB, "memory/memory.usage_in_bytes": 2 * GIB,
              "memory/memory.stat": f"inactive_file 3\ntotal_inactive_file {GIB}\n"}, 3),
        (V1, {"memory/memory.limit_in_bytes": 2**63 - 4096, "memory/memory.usage_in_bytes": GIB}, 8),
    ],
)  # fmt: skip
def test_the_smaller_of_machine_and_limits(
    tmp_path: Path, cgroup: str | None, files: dict[str, str | int], gib: int
) -> None:
    assert free_bytes(machine(tmp_path, cgroup, files)) == gib * GIB


def test_an_estimate_asks_for_it(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "free_bytes", lambda: 12345)
    found = estimate(configure(), here=True)
    assert not found.fits and found.available <= found.program + 12345 + (64 << 20)
