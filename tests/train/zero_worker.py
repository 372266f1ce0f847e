"""One process of a DeepSpeed run that does what it is told, one thing after the other: starting is what takes
time. ``train FILE``; ``cut OLD FILE`` (resumes from the first checkpoint of OLD's run); ``load FILE`` (measures
the memory that loading the model takes)."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import torch

from callama.cli.common import guarded
from callama.model.transformer import Dropout
from callama.train import zero
from callama.train.checkpoint import step_folders
from callama.train.config import load_config
from callama.train.loop import train
from callama.weights.native import read_native

RANK = os.environ["RANK"]


def anonymous_bytes() -> int:
    """Memory of this process that is not a file's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))) * 1024


def load(file: Path) -> dict[str, int]:
    """The model's bytes, and by how many the memory rose at most, and at the end, while it was loaded."""
    config = load_config(file)
    zero.join(config)
    checkpoint = read_native(config.model_ckpt_file)  # maps the file; what it imports is no part of the model
    before, peak, done = anonymous_bytes(), 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_bytes())
            time.sleep(0.001)

    watcher = threading.Thread(target=look)
    watcher.start()
    model = zero.builder(config)(
        checkpoint, dtype=torch.float32, device=torch.device("cpu"), dropout=Dropout(0.0, 0.0, 0.0)
    )
    held = anonymous_bytes() - before
    done.set()
    watcher.join()
    numbers = sum(parameter.ds_numel for parameter in model.parameters())
    return {"model": 4 * numbers, "peak": max(peak - before, held), "held": held}


def cut(old: Path, new: Path) -> None:
    """Gives the new run what the old one had at its first checkpoint."""
    source, target = (load_config(file).checkpoint.folder for file in (old, new))
    if RANK == "0":
        first = step_folders(source)[0]
        shutil.copytree(first, target / first.name)
        (target / "latest").write_text(f"{first.name}\n", encoding="utf-8")
    torch.distributed.barrier()


def main() -> None:
    """Works its arguments off and leaves results beside the files."""
    torch.set_num_threads(1)
    words = iter(sys.argv[1:])
    for word in words:
        file = Path(next(words))
        if word == "load":
            file.with_suffix(f".{RANK}.json").write_text(json.dumps(load(file)), encoding="utf-8")
            continue
        if word == "cut":
            old, file = file, Path(next(words))
            cut(old, file)
        result = train(load_config(file), resume=word != "train")
        if RANK == "0":
            file.with_suffix(".result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    guarded(main, zero.leave)
