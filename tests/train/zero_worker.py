"""One process of a DeepSpeed run that trains as each configuration file named says, one after the other;
``--resume`` before a name resumes. Starting is what takes time, so several runs share it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from callama.cli.common import guarded
from callama.train.config import load_config
from callama.train.loop import train
from callama.train.zero import leave


def main() -> None:
    """Trains; the first process leaves each result beside its configuration."""
    torch.set_num_threads(1)
    resume = False
    for argument in sys.argv[1:]:
        if argument == "--resume":
            resume = True
            continue
        result = train(load_config(Path(argument)), resume=resume)
        resume = False
        if os.environ["RANK"] == "0":
            Path(argument).with_suffix(".result.json").write_text(json.dumps(result), encoding="utf-8")
    leave()


if __name__ == "__main__":
    guarded(main)
