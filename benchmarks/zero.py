"""Do curves under ZeRO equal those of one process? 50 steps of a tiny model, two processes, the same global batch.

Prints the largest relative difference of loss and gradient norm to the plain engine for ZeRO-1, -2 and -3 (with
and without offload), and of the validation loss at stage 3 to stage 2. Appends to ``benchmarks/results/zero.json``.

    python -m benchmarks.zero [--steps 50]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.record import record
from callama.train.config import load_config
from callama.train.loop import train
from tests import tiny
from tests.train import test_zero as runs


def difference(found: list[float], expected: list[float]) -> float:
    """The largest relative difference of two curves."""
    return max(abs(one / other - 1) for one, other in zip(found, expected, strict=True))


def main() -> None:
    """Runs, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = tiny.write_all(Path(folder), count=42)
        epochs = {"train__num_epochs": steps // 2}
        train(load_config(runs.write(root, "plain", None, **epochs)))
        commands: list[object] = []
        for name, zero in runs.STAGES.items():
            commands += ["train", runs.write(root, name, zero, **epochs)]
        for status, said in runs.finish(runs.start("-m", "tests.train.zero_worker", *commands), timeout=1800):
            assert status == 0, said
        curves = {
            name: {
                tag: difference(runs.curve(root, name, tag), runs.curve(root, "plain", tag))
                for tag in ("train/loss", "schedule/gradient_norm", "validation/loss")
            }
            for name in runs.STAGES
        }
        validation = difference(*(runs.curve(root, name, "validation/loss") for name in ("zero3", "zero2")))
    for name, found in curves.items():
        print(f"{name:14} " + "  ".join(f"{tag} {value:.1e}" for tag, value in found.items()))
    print(f"validation under stage 3 against stage 2: {validation:.1e}")
    figures = {
        "steps": steps,
        "processes": 2,
        "largest_relative_difference_to_plain": curves,
        "validation_stage_3_to_2": validation,
        "threads_a_process": torch.get_num_threads(),
    }
    record("zero", figures, ("torch", "deepspeed"))


if __name__ == "__main__":
    main()
