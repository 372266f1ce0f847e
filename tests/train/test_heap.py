"""With ``train.recompute`` on a CPU the process takes what is counted, not what malloc keeps for later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
# A model of wide tensors in a process of its own: resident memory above that of the loaded model.
STEPS = """
import json
from dataclasses import replace
import torch
from callama.train.config import OptimizerSection
from callama.train.engine import PlainEngine
from callama.train.estimate import resident_bytes
from callama.train.heap import give_back_freed_memory
from callama.train.memory import Load, parts, peak_bytes
from tests.train.test_memory import PARAMS, batch_of, model_of, setting

torch.set_num_threads(1)
give_back_freed_memory()
made = setting(params=replace(PARAMS, n_layers=6, vocab_size=500), recompute=True)
documents = [[1024]] * 8
engine = PlainEngine(model_of(made), OptimizerSection(), 1.0)
before = resident_bytes()
for _ in range(2):
    engine.backward(engine.loss(batch_of(documents, 300)).total, last=True)
    engine.step(1e-4, 300.0)
load = Load(documents, 300)
there = parts(made, load)["weights"] + parts(made, load)["adapter"]
# Not getrusage, whose peak counts what the process that started this one had.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
taken = int(peak.split()[1]) * 1024 - before
print(json.dumps([taken, peak_bytes(made, load) - there]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory from /proc")
def test_running_blocks_again_takes_what_is_counted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEPS], cwd=REPO, capture_output=True, text=True, timeout=200, check=True
    )  # fmt: skip
    taken, counted = json.loads(done.stdout)
    assert 0.85 * counted < taken < 1.25 * counted
