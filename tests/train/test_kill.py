"""A run may be killed at any moment, the middle of saving included: it goes on, and its result is the same, bit
for bit. ``benchmarks/kills.py`` does so thirty times at random."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callama.train.checkpoint import step_folders
from callama.train.loop import train
from callama.weights.adapter import find_adapter
from tests import tiny
from tests.train.conftest import Configure
from tests.train.test_resume import DROPPING, cut_back

REPO = Path(__file__).resolve().parents[2]


def kill(world: Path, folder: Path, *how: str) -> Any:
    """What the killing process reports."""
    changes = DROPPING | {"checkpoint__save_interval": 1, "checkpoint__keep": 1, "tensorboard__enabled": True}
    validation = {"dataset_sources": [str(world / "built" / "validation.arrow")], "interval": 2}
    files = [
        tiny.write_settings(
            folder / f"{name}.json", tiny.settings(world, folder / name, **changes, validation=validation)
        )
        for name in ("whole", "killed")
    ]
    command = [sys.executable, "-m", "tests.train.kills", *map(str, files), *how]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_killed_at_random_moments(world: Path, tmp_path: Path) -> None:
    assert kill(world, tmp_path, "--random", "5")["kills"] == 5


@pytest.mark.slow
def test_killed_between_any_two_touches_of_a_file(world: Path, tmp_path: Path) -> None:
    found = kill(world, tmp_path, "--every", "7")
    assert found["kills"] > 15 and found["while_saving"] > 10


def test_a_folder_beyond_the_newest_named_one_does_not_push_out_what_is_saved(configure: Configure, job: Path) -> None:
    """Killed between a checkpoint's appearance and ``latest``, then saved at an earlier step."""
    train(configure(checkpoint__save_interval=3, checkpoint__keep=1))
    (job / "step_000008").rename(job / "aside")
    train(configure(checkpoint__save_interval=3, checkpoint__keep=9), fresh=True)
    cut_back(job, 3)
    (job / "aside").rename(job / "step_000008")
    result = train(configure(checkpoint__save_interval=5, checkpoint__keep=1), resume=True)
    assert find_adapter(job) == step_folders(job)[-1] == Path(result["checkpoint"])
