"""What tensors take while something runs, as the allocator tells it: exact, and free of the process's own noise."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def allocated_bytes(run: Callable[[], object]) -> tuple[int, int]:
    """The peak of what ``run`` allocates on the CPU beyond what was there, and what is left of it at its end."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = run()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    now = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    del kept
    return peak, now
