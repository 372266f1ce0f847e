"""Memory that really does not suffice: the run ends with what to change, and what is saved stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from callama.train.config import TrainConfig
from callama.train.out_of_memory import what_takes_less
from tests import tiny

REPO = Path(__file__).resolve().parents[2]
# The limit is set when everything is loaded: what then fails is the step.
SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from callama.cli.common import guarded
from callama.train.config import load_config
from callama.train.loop import train

class Limit:
    def write(self, said):
        if said.startswith("training "):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + 100 * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return sys.__stderr__.write(said)
    def flush(self):
        sys.__stderr__.flush()

sys.stderr = Limit()
guarded(lambda: train(load_config(Path(sys.argv[1]))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory")
def test_a_step_that_does_not_fit_says_what_to_change(tmp_path: Path) -> None:
    root = tiny.write_all(tmp_path, count=400)
    values = tiny.settings(root, tmp_path / "run", train__micro_batch_size=99)
    file = tiny.write_settings(tmp_path / "config.json", values)
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, str(file)],
        cwd=REPO, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "error: out of memory; set train.micro_batch_size=1 with train.gradient_accumulation_steps=99" in done.stderr
    assert "Traceback" not in done.stderr


def test_advice_fits_the_settings(tmp_path: Path) -> None:
    values = tiny.settings(tmp_path, tmp_path, dtype="bf16")
    small = TrainConfig.model_validate(values)
    assert what_takes_less(small) == "a model_config.max_seq_len below 372, and build with --max-tokens to match"
    said = what_takes_less(TrainConfig.model_validate(values | {"zero_optimization": {"stage": 2}, "dtype": "fp32"}))
    assert "dtype=bf16" in said and "ZeRO stage 3" in said and "offload_optimizer" in said
