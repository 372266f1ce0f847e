"""Kills a training run thirty times at random moments, and once at every touch of a checkpoint's files.

Each time it goes on from ``latest``; what comes out must equal, bit for bit, a run that was left alone. Appends
to ``benchmarks/results/kills.json``.

    python -m benchmarks.kills [--random 30] [--every 1]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.record import record
from tests import tiny
from tests.train.test_kill import kill


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
    figures = {
        "at_random_moments": found["random"],
        f"at_every_{args.every}th_touch_of_a_file": found["every"],
    }
    record("kills", figures, ("torch",))


if __name__ == "__main__":
    main()
