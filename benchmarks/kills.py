"""Kills a training run thirty times at random moments, and once at every touch of a checkpoint's files.

Each time it goes on from ``latest``; what comes out must equal, bit for bit, a run that was left alone. Appends
to ``benchmarks/results/kills.json``.

    python -m benchmarks.kills [--random 30] [--every 1]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests import tiny
from tests.train.test_kill import kill

RESULTS = Path(__file__).parent / "results" / "kills.json"


def main() -> None:
    """Kills, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=30)
    parser.add_argument("--every", type=int, default=1)
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        world = tiny.write_all(Path(folder))
        for how, count in (("random", args.random), ("every", args.every)):
            (world / how).mkdir()
            found[how] = kill(world, world / how, f"--{how}", str(count))
            print(f"{how}: {found[how]}, all bit-identical")
    entry = {
        "benchmark": "kills",
        "at_random_moments": found["random"],
        f"at_every_{args.every}th_touch_of_a_file": found["every"],
        "machine": platform.processor() or platform.machine(),
        "versions": {"torch": version("torch")},
        "date": datetime.now(UTC).date().isoformat(),
    }
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    RESULTS.write_text(json.dumps([*known, entry], indent=2) + "\n")


if __name__ == "__main__":
    main()
