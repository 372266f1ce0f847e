"""DeepSpeed in two processes on the CPU: the same curves as one process, honest validation, checkpoints
that DeepSpeed's own script and ours read alike, and no hang when a process is gone (traps 16, 18)."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callama.common.errors import CallamaError
from callama.common.verify import verify_folder
from callama.model.params import ModelParams
from callama.model.transformer import Transformer
from callama.train.config import load_config
from callama.train.loop import train
from callama.weights.adapter import find_adapter, read_adapter
from callama.weights.merge import merge_to_folder
from callama.weights.native import read_params, write_native
from callama.weights.shards import consolidate, load_shard
from tests import tiny
from tests.train.reference import adapter_tensors, assert_bit_equal
from tests.weights.formats import disown

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs callama[deepspeed]"),
    pytest.mark.slow,
]
REPO = Path(__file__).resolve().parents[2]
STEPS, CUT = 16, 8
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
STAGES: dict[str, dict[str, Any]] = {
    "zero1": {"stage": 1},
    "zero2": {"stage": 2},
    "zero3": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "zero2_offload": {"stage": 2, **OFFLOAD},
    "zero3_offload": {"stage": 3, "offload_param": {"device": "cpu"}, **OFFLOAD},
}


def start(*arguments: object, ranks: int = 2, cwd: Path = REPO) -> list[subprocess.Popen[str]]:
    """Processes of one run, as DeepSpeed's launcher would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {
        "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO),
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]


def finish(processes: list[subprocess.Popen[str]], timeout: float = 300) -> list[tuple[int, str]]:
    """Exit status and standard error of each."""
    try:
        return [(p.returncode, err) for p in processes for _, err in [p.communicate(timeout=timeout)]]
    finally:
        for process in processes:
            process.kill()


def write(root: Path, name: str, zero: dict[str, Any] | None, **changes: Any) -> Path:
    """Settings of a run of two steps an epoch: of six micro-batches of all processes, and of what is left."""
    validation = {
        "dataset_sources": [str(root / "built" / "train.arrow")], "interval": CUT, "questions": 5, "batch_size": 3
    }  # fmt: skip
    changes = {
        "train__num_epochs": STEPS // 2,
        "train__gradient_accumulation_steps": 6 if zero is None else 3,
        "scheduler__max_lr": 3e-3,
        "tensorboard__enabled": True,
        "validation": validation,
        "checkpoint__save_interval": CUT,
        "checkpoint__keep": 9,
    } | changes
    values = tiny.settings(root, root / name, **changes)
    return tiny.write_settings(root / f"{name}.json", values | ({"zero_optimization": zero} if zero else {}))


def write_large(root: Path) -> Path:
    """Settings with a model of some 170 MB, in tensors of a few MB."""
    params = ModelParams(
        dim=512, n_layers=12, n_heads=8, n_kv_heads=4, vocab_size=4096, multiple_of=256, rope_theta=1e4, max_seq_len=64
    )
    state = dict(Transformer(params, tied=False).state_dict())
    write_native(root / "large", params, state, root / "tokenizer.json", {"kind": "native checkpoint", "dtype": "fp32"})
    return write(root, "large_run", STAGES["zero3"], model_ckpt_file=str(root / "large"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of one process and of every stage, whole; zero2 and zero3 also cut and resumed."""
    root = tiny.write_all(tmp_path_factory.mktemp("zero"), count=42)
    train(load_config(write(root, "plain", None)))
    commands: list[object] = ["load", write_large(root)]
    for name, zero in STAGES.items():
        commands += ["train", write(root, name, zero)]
    for name in ("zero2", "zero3"):
        commands += ["cut", root / f"{name}.json", write(root, f"{name}_cut", STAGES[name])]
    for status, said in finish(start("-m", "tests.train.zero_worker", *commands)):
        assert status == 0, said
    return root


def curve(root: Path, name: str, tag: str) -> list[float]:
    events = EventAccumulator(str(root / name / "logs" / "job")).Reload().Scalars(tag)
    return [event.value for event in events]


def result(root: Path, name: str) -> dict[str, Any]:
    return json.loads((root / f"{name}.result.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", STAGES)
def test_the_curve_is_that_of_one_process(runs: Path, name: str) -> None:
    for tag in ("train/loss", "schedule/gradient_norm"):
        found, expected = curve(runs, name, tag), curve(runs, "plain", tag)
        assert len(found) == STEPS
        assert found == pytest.approx(expected, rel=1e-4), tag
    assert found[0] != found[-1]


@pytest.mark.parametrize("name", STAGES)
def test_trap_16_validation_is_the_same_at_every_stage(runs: Path, name: str) -> None:
    found, expected = (curve(runs, n, "validation/loss") for n in (name, "zero2"))
    assert len(found) == 2 and found[0] > 1.02 * found[1]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found == pytest.approx(curve(runs, "plain", "validation/loss"), rel=1e-4)


@pytest.mark.parametrize("name", STAGES)
def test_consolidating_gives_the_live_adapter(runs: Path, name: str, tmp_path: Path) -> None:
    numbers = consolidate(runs / name / "job", tmp_path / "adapter")
    live = find_adapter(runs / name / "job")
    assert_bit_equal(tmp_path / "adapter", live)
    assert numbers == sum(t.numel() for t in adapter_tensors(live).values())
    merge_to_folder(runs / "model", tmp_path / "adapter", tmp_path / "merged", max_changed=1.0)


@pytest.mark.parametrize(("name", "place"), [("zero3", "job"), ("zero3", "checkpoint"), ("zero2", "checkpoint")])
def test_trap_18_deepspeeds_own_script_consolidates_what_was_trained(
    runs: Path, tmp_path: Path, name: str, place: str
) -> None:
    """From stage 2 in the job's folder: merged in ``test_ds_finetune``."""
    job, out = runs / name / "job", tmp_path / "converted"
    here = job if place == "job" else find_adapter(job)
    subprocess.run([sys.executable, "zero_to_fp32.py", "./", str(out)], cwd=here, check=True, capture_output=True)
    assert verify_folder(find_adapter(job)).extra == [] and find_adapter(find_adapter(job)) == find_adapter(job)
    state = torch.load(out / "pytorch_model.bin", weights_only=True)
    assert all(".lora_" in key for key in state)
    params = read_params(runs / "model")
    live, found = read_adapter(find_adapter(job), params), read_adapter(out, params, config_dir=job)
    assert set(live.factors) == set(found.factors)
    for module, pair in live.factors.items():
        assert all(torch.equal(one, other) for one, other in zip(pair, found.factors[module], strict=True))


def test_trap_18_a_checkpoint_holds_nothing_frozen_and_is_named_when_whole(runs: Path) -> None:
    for name in STAGES:
        job = runs / name / "job"
        assert (job / "latest").read_text().strip() == f"step_{STEPS:06}"
        assert not [p for p in job.iterdir() if p.name.startswith(".")]
        files = sorted(find_adapter(job).glob("*_model_states.pt"))
        keys = {key for file in files for key in load_shard(file)["module"] or {}}
        assert files and all(".lora_" in key for key in keys), name
        assert keys or name.startswith("zero3"), name  # stage 3 has weights in its optimizer's parts only


def test_a_part_with_code_in_it_is_refused(runs: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    shutil.copytree(runs / "zero2" / "job", job)
    part = next(find_adapter(job).glob("*_optim_states.pt"))
    torch.save({"optimizer_state_dict": Path("/tmp")}, part)
    with pytest.raises(CallamaError, match="was changed or damaged after callama wrote it"):
        consolidate(job, tmp_path / "out")
    disown(part)
    with pytest.raises(CallamaError, match="cannot be read as a part of a DeepSpeed checkpoint"):
        consolidate(job, tmp_path / "out")
    part.unlink()
    with pytest.raises(CallamaError, match="is the copy complete"):
        consolidate(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", STAGES)
def test_the_model_answers_alike_at_every_stage(runs: Path, name: str) -> None:
    """Generating gathers the parts of the model; what is trained afterwards does not notice (same curves)."""
    assert curve(runs, name, "calls/right_turn") == curve(runs, "plain", "calls/right_turn")
    assert result(runs, name)["best_step"] == STEPS
    assert (runs / name / "job" / "best").read_text() == f"step_{STEPS:06}\n"


def test_stage_3_loads_without_any_process_holding_the_whole_model(runs: Path) -> None:
    for rank in (0, 1):
        found = json.loads((runs / f"large_run.{rank}.json").read_text())
        assert found["model"] > 150e6
        assert 0.4 * found["model"] < found["held"] <= found["peak"] < 0.85 * found["model"]


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_a_resumed_run_equals_an_uninterrupted_one(runs: Path, name: str) -> None:
    assert result(runs, f"{name}_cut")["train_loss"] == result(runs, name)["train_loss"]
    assert_bit_equal(find_adapter(runs / f"{name}_cut" / "job"), find_adapter(runs / name / "job"))


def test_another_number_of_processes_is_refused_at_resume(runs: Path) -> None:
    processes = start("-m", "tests.train.zero_worker", "resume", runs / "zero2.json", ranks=1)
    ((status, said),) = finish(processes)
    assert status == 1
    assert "was written by 2 processes, this run has 1; start as many" in said
    assert "Traceback" not in said


def test_when_a_process_dies_the_other_ends_with_a_message(runs: Path) -> None:
    config = write(runs, "dying", {"stage": 3}, train__max_minutes=60, checkpoint__save_interval=2)
    values = json.loads(config.read_text())
    values["train"]["num_epochs"] = 10_000
    survivor, victim = start("-m", "tests.train.zero_worker", "train", tiny.write_settings(config, values))
    assert survivor.stderr is not None
    for line in survivor.stderr:
        if line.startswith("step 3/"):
            break
    victim.kill()
    began = time.monotonic()
    (status, said), _ = finish([survivor, victim])
    assert time.monotonic() - began < 60
    assert status == 1
    assert "another process of this run has ended" in said and "--resume" in said
    assert "Traceback" not in said
