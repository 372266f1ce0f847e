"""What a run on a CPU does against a frayed heap: with ``train.recompute`` the process takes what is counted, not what
malloc keeps for later; and little is kept of shapes that do not come again."""

from __future__ import annotations

import json
import os
import re
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
from callama.train.main_memory import resident_bytes
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


# After as many shapes as are kept, is the first one prepared anew?
SHAPES = """
import torch
from callama.train.heap import keep_few_primitives

keep_few_primitives()
weight = torch.zeros(576, 576, dtype=torch.bfloat16)
for rows in range(1, 300):
    torch.nn.functional.linear(torch.zeros(rows, 576, dtype=torch.bfloat16), weight)
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON_CREATION):
    for rows in (299, 1):
        torch.nn.functional.linear(torch.zeros(rows, 576, dtype=torch.bfloat16), weight)
"""


def test_few_of_the_shapes_that_were_are_kept() -> None:
    def found(**settings: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", SHAPES],
            cwd=REPO, env=os.environ | settings, capture_output=True, text=True, timeout=200, check=True,
        )  # fmt: skip
        return re.findall(r"create:(cache_\w+),cpu,matmul", done.stdout)

    if not (kept := found(ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024")):
        pytest.skip("torch multiplies without oneDNN here")
    assert kept == ["cache_hit", "cache_hit"], "what the user has set counts"
    assert found() == ["cache_hit", "cache_miss"]
