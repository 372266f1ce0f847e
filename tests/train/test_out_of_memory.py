"""Memory that really does not suffice: the run ends with what to change, and what is saved stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from callama.train import out_of_memory
from callama.train.config import TrainConfig
from callama.train.out_of_memory import computed_in, less_memory, what_takes_less, what_validates_in_less
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


OFFLOAD = {"device": "cpu"}
MICRO_BATCH = "train.micro_batch_size=1 train.gradient_accumulation_steps=6"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, ["train.recompute=true", "method=qlora"]),
        ({"train__micro_batch_size": 3, "train__gradient_accumulation_steps": 2, "train__recompute": True},
         [MICRO_BATCH, "method=qlora"]),
        ({"method": "qlora"}, ["train.recompute=true"]),
        ({"method": "full", "dtype": "fp32"}, ["train.recompute=true", "dtype=bf16", "method=lora", "method=qlora"]),
        ({"zero_optimization": {"stage": 2}, "device": "cuda"},
         ["train.recompute=true", "zero_optimization.offload_optimizer.device=cpu", "zero_optimization.stage=3",
          "zero_optimization.offload_param.device=cpu"]),
        ({"zero_optimization": {"stage": 2}}, ["train.recompute=true", "zero_optimization.stage=3"]),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "none"}}, "device": "cuda",
          "method": "qlora"}, ["train.recompute=true", "zero_optimization.offload_optimizer.device=cpu"]),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": OFFLOAD}, "device": "cuda",
          "lora_config__use_dora": True}, ["train.recompute=true", "method=qlora"]),
        ({"zero_optimization": {"stage": 3, "offload_optimizer": OFFLOAD, "offload_param": OFFLOAD},
          "train__recompute": True}, []),
        ({"model_config__max_seq_len": 1100, "train__recompute": True, "method": "qlora"},
         ["model_config.max_seq_len=550", "model_config.max_seq_len=275"]),
    ],
)  # fmt: skip
def test_only_what_this_run_does_not_have_and_may_have_is_advised(
    tmp_path: Path, changes: dict[str, Any], named: list[str]
) -> None:
    config = TrainConfig.model_validate(tiny.settings(tmp_path, tmp_path, **({"dtype": "bf16"} | changes)))
    found = list(less_memory(config, config.device))
    assert [change for change, _ in found] == named
    for count, (_, changed) in enumerate(found, 1):
        changed.require_possible()
        assert changed.saved() == config.changed(*" ".join(named[:count]).split()).saved()


def test_what_auto_stands_for_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offloading saves nothing on a CPU, and one without units for bf16 computes in fp32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = torch.float32
    monkeypatch.setattr(out_of_memory, "choose_dtype", lambda name, device: chosen if name == "auto" else None)
    values = tiny.settings(tmp_path, tmp_path, device="auto", dtype="auto", zero_optimization={"stage": 2})
    said = what_takes_less(TrainConfig.model_validate(values))
    assert "offload" not in said and "dtype=bf16" in said and "zero_optimization.stage=3" in said
    chosen = torch.bfloat16
    assert "dtype=bf16" not in what_takes_less(TrainConfig.model_validate(values))


@pytest.mark.parametrize("has_units", [True, False])
def test_bf16_is_advised_on_gpus_that_multiply_it_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_units: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_units)
    values = tiny.settings(tmp_path, tmp_path, device="cuda", dtype="fp32")
    assert ("dtype=bf16" in what_takes_less(TrainConfig.model_validate(values))) == has_units
    found = computed_in(TrainConfig.model_validate(values | {"dtype": "auto"}), "cuda")
    assert found == (torch.bfloat16 if has_units else torch.float32)


def test_a_gpu_elsewhere_is_taken_for_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    values = tiny.settings(tmp_path, tmp_path, device="cuda", dtype="auto")
    assert computed_in(TrainConfig.model_validate(values), "cuda") == torch.bfloat16


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ({"batch_size": 4}, "set validation.batch_size=1"),
        ({"batch_size": 4, "questions": 3},
         "set validation.batch_size=1 and, if that is not enough, validation.questions=0"),
        ({"batch_size": 1, "questions": 3}, "set validation.questions=0"),
        ({"batch_size": 1, "questions": 3, "best_by": "calls"}, "set validation.enabled=false"),
        ({"batch_size": 1}, "set validation.enabled=false"),
    ],
)  # fmt: skip
def test_validation_in_less_memory(tmp_path: Path, validation: dict[str, Any], said: str) -> None:
    config = TrainConfig.model_validate(tiny.settings(tmp_path, tmp_path, validation=validation))
    assert what_validates_in_less(config) == said


def test_advice_is_a_sentence(tmp_path: Path) -> None:
    values = tiny.settings(tmp_path, tmp_path, dtype="bf16")
    shorter = "a model_config.max_seq_len below 372, and build with --max-tokens to match"
    assert what_takes_less(TrainConfig.model_validate(values)) == (
        "set train.recompute=true (the same gradients, more slowly); or, if that is not enough, "
        f"method=qlora, {shorter}"
    )
    values["train"]["recompute"] = True
    assert what_takes_less(TrainConfig.model_validate(values | {"method": "qlora"})) == f"set {shorter}"
    on_gpu = {"zero_optimization": {"stage": 2}, "dtype": "fp32", "device": "cuda"}
    said = what_takes_less(TrainConfig.model_validate(values | on_gpu))
    assert "dtype=bf16" in said and "zero_optimization.stage=3" in said and "offload_optimizer" in said
