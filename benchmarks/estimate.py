"""``callama estimate`` against real runs on the embedded model: peak memory and seconds of a step.

Each setting trains a few steps in a process of its own on synthesised conversations; the estimate is made in
another one, before. Prints both and their ratios, and appends the figures to ``benchmarks/results/estimate.json``.

    python -m benchmarks.estimate [--steps 9] [--only lora-fp32]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import record
from benchmarks.train_step import MODEL
from callama.data.build import build
from callama.data.dataset import Dataset
from callama.synth.write import write_sets
from callama.train.pace import MEASURE_STEPS

SETTINGS: dict[str, dict[str, Any]] = {
    "lora-fp32": {"dtype": "fp32"},
    "lora-fp32-512": {"dtype": "fp32", "model_config.max_seq_len": 512},
    "lora-fp32-4096": {"dtype": "fp32", "model_config.max_seq_len": 4096},
    "lora-fp32-4096-recompute": {"dtype": "fp32", "model_config.max_seq_len": 4096, "train.recompute": True},
    "lora-bf16": {"dtype": "bf16"},
    "lora-bf16-4096": {"dtype": "bf16", "model_config.max_seq_len": 4096},
    "lora-bf16-accumulated": {"dtype": "bf16", "train.gradient_accumulation_steps": 2},
    "dora-fp32": {"dtype": "fp32", "lora_config.use_dora": True},
    "qlora-bf16": {"dtype": "bf16", "method": "qlora"},
    "full-fp32": {"dtype": "fp32", "method": "full"},
    "full-bf16": {"dtype": "bf16", "method": "full"},
}
ESTIMATE = """
import json, sys
from pathlib import Path
from callama.train.config import load_config
from callama.train.estimate import estimate
print(json.dumps(estimate(load_config(Path(sys.argv[1])), here=True, timed=True).as_dict()))
"""
TRAIN = """
import json, sys
from pathlib import Path
from callama.train.config import load_config
from callama.train.loop import train
print(json.dumps(train(load_config(Path(sys.argv[1])))))
"""


def write_config(folder: Path, data: Path, changes: dict[str, Any]) -> Path:
    """A configuration that trains the embedded model on ``data`` and writes nothing but its result."""
    values: dict[str, Any] = {
        "model_ckpt_file": str(MODEL / "consolidated.pth"),
        "steps_per_print": 1000,
        "model_config": {"max_seq_len": 1024},
        "lora_config": {"lora_rank": 32},
        "checkpoint": {"enabled": False, "output_path": str(folder)},
        "tensorboard": {"enabled": False, "output_path": str(folder)},
        "train": {"dataset_sources": [str(data)], "micro_batch_size": 1},
        "validation": {"enabled": False},
    }
    for path, value in changes.items():
        *parents, key = path.split(".")
        node = values
        for parent in parents:
            node = node[parent]
        node[key] = value
    file = folder / "config.json"
    file.write_text(json.dumps(values))
    return file


def data_for(folder: Path, tokens_per_step: int, steps: int) -> Path:
    """About as many conversations as fill ``steps`` steps."""
    write_sets(folder / "synth", 1000, 0, val_ratio=0.0, seed=1, scenarios=None)
    lines = (folder / "synth" / "train.jsonl").read_text().splitlines(keepends=True)
    build([folder / "synth" / "train.jsonl"], MODEL, folder / "all", val_ratio=0.0, max_tokens=512)
    mean = float(Dataset(folder / "all" / "train.arrow").lengths.mean())
    few = folder / "few.jsonl"
    few.write_text("".join(lines[: max(2, int(tokens_per_step * steps / mean))]))
    build([few], MODEL, folder / "built", val_ratio=0.0, max_tokens=512)
    return folder / "built" / "train.arrow"


def run(code: str, config: Path) -> dict[str, Any]:
    """The JSON object that ``code`` prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, str(config)], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(name: str, steps: int) -> dict[str, Any]:
    """Estimate and measurement of one setting."""
    changes = SETTINGS[name]
    with tempfile.TemporaryDirectory() as place:
        length = changes.get("model_config.max_seq_len", 1024) * changes.get("train.gradient_accumulation_steps", 1)
        config = write_config(Path(place), data_for(Path(place), length, steps), changes)
        guess, found = run(ESTIMATE, config), run(TRAIN, config)
    # The first step is slower; what ``train.max_minutes`` plans with leaves it out too.
    seconds = (found["seconds"] - found["warm_up_seconds"]) / (found["step"] - MEASURE_STEPS)
    low, high = guess["seconds_per_step"]
    return {
        "setting": name, "estimated_bytes": guess["peak"], "measured_bytes": found["peak_memory_bytes"],
        "memory_ratio": guess["peak"] / found["peak_memory_bytes"],
        "estimated_seconds": [low, high], "measured_seconds": seconds,
        "time_ratio": [low / seconds, high / seconds], "steps": found["step"],
    }  # fmt: skip


def main() -> None:
    """Parses, measures, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=MEASURE_STEPS + 4)
    parser.add_argument("--only", choices=SETTINGS, action="append")
    args = parser.parse_args()
    if args.steps <= MEASURE_STEPS:
        parser.error(f"--steps must be above {MEASURE_STEPS}: the first ones are slower and not counted")
    rows = []
    for name in args.only or SETTINGS:
        rows.append(row := measure(name, args.steps))
        size = f"{row['estimated_bytes'] / 2**30:5.2f} of {row['measured_bytes'] / 2**30:5.2f} GiB"
        low, high = row["time_ratio"]
        seconds = "{:.2f} to {:.2f}".format(*row["estimated_seconds"]) + f" of {row['measured_seconds']:.2f} s a step"
        print(f"{name:26} {size}: {row['memory_ratio']:.2f} x   {seconds}: {low:.2f} to {high:.2f} x", flush=True)
    record("estimate", {"settings": rows, "threads": torch.get_num_threads()}, ("torch",))


if __name__ == "__main__":
    main()
