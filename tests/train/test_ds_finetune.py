"""The original README's way under DeepSpeed, command by command: its configuration, the launcher, DeepSpeed's
own script that joins the parts, and the merge."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from callama.common.files import read_manifest
from callama.common.lock import sole_writer
from callama.model.params import ModelParams
from callama.weights.adapter import find_adapter
from callama.weights.native import read_native
from callama.weights.shards import consolidate
from tests import tiny
from tests.train.reference import assert_bit_equal
from tests.train.test_ds_config import original
from tests.train.test_zero import finish, start

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs callama[deepspeed]"),
    pytest.mark.slow,
]
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's folder: the entry points, the original's configuration on the tiny pipeline, one run done."""
    root = tiny.write_all(tmp_path_factory.mktemp("here"))
    for name in ("ds_finetune.py", "scripts"):
        (root / name).symlink_to(REPO / name)
    settings = original()
    shape = ModelParams.to_meta(read_native(root / "model").params)
    settings["model_config"] |= {key: shape[key] for key in settings["model_config"] if key in shape}
    settings["tokenizer_file"] = "./model/tokenizer.json"
    settings["model_ckpt_file"] = "./model/consolidated.pth"
    settings["deepspeed_config"]["checkpoint"]["output_path"] = "./checkpoints/"
    for side in ("train", "validation"):
        settings[side]["dataset_sources"] = [f"./built/{side}.arrow"]
    (root / "configs").mkdir()
    (root / "configs" / "ds_finetune.json").write_text(json.dumps(settings), encoding="utf-8")
    done = run(root, "deepspeed --num_accelerators 2 ds_finetune.py")
    assert "checkpoint: checkpoints/ds_llama3_fc/step_" in done.stdout
    assert done.stdout.count("checkpoint:") == 1, "one process speaks for all"
    assert "deepspeed_config.activation_checkpointing has no effect" in done.stderr
    return root


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A line of the README, with this Python and without GPUs."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": path, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_readmes_commands_end_in_a_merged_model(here: Path) -> None:
    run(
        here,
        """
        mkdir ./checkpoints/converted_lora_state
        cd ./checkpoints/ds_llama3_fc
        python zero_to_fp32.py ./ ../converted_lora_state/lora_state_consolidated.pt
        cp lora.json ../converted_lora_state/
        cp params.json ../converted_lora_state/
        cd ../..
        python3 scripts/convert_lora_weights.py --config-dir ./checkpoints/converted_lora_state \
            --base-ckpt-path ./model/consolidated.pth \
            --lora-ckpt-path ./checkpoints/converted_lora_state/lora_state_consolidated.pt \
            --output-dir ./checkpoints/finetuned_merged
        callama consolidate ./checkpoints/ds_llama3_fc ./checkpoints/ours
        callama merge ./model ./checkpoints/ours ./checkpoints/ours_merged
        """,
    )
    merged, ours, base = (
        read_native(here / name).state for name in ("checkpoints/finetuned_merged", "checkpoints/ours_merged", "model")
    )
    changed = {name for name in base if not torch.equal(base[name].float(), merged[name].float())}
    assert changed == {f"layers.{layer}.attention.{name}.weight" for layer in (0, 1) for name in ("wq", "wv")}
    assert all(torch.equal(merged[name], ours[name]) for name in merged)


def test_every_checkpoint_can_be_joined_by_itself(here: Path, tmp_path: Path) -> None:
    newest = find_adapter(here / "checkpoints" / "ds_llama3_fc")
    consolidate(newest, tmp_path / "joined")
    assert_bit_equal(tmp_path / "joined", newest)
    facts = read_manifest(tmp_path / "joined")
    assert facts["base"] == "model" and facts["dialect"] == read_manifest(newest)["dialect"]


def test_a_signal_to_one_process_ends_all_with_its_status_and_saves(here: Path) -> None:
    processes = start(
        REPO / "ds_finetune.py", "train.num_epochs=500", "deepspeed_config.steps_per_print=1",
        "deepspeed_config.checkpoint.job_name=ended", cwd=here,
    )  # fmt: skip
    first, second = processes
    assert first.stderr is not None
    before = ""
    while "step 2/" not in before and (line := first.stderr.readline()):
        before += line
    second.send_signal(signal.SIGTERM)
    out = first.communicate(timeout=100)
    ended = [first.returncode, finish([second])[0][0]]
    assert ended == [143, 143], before + out[1]
    assert "go on with --resume" in out[1] and out[1].endswith("terminated\n")
    assert f"checkpoint: checkpoints/ended/{find_adapter(here / 'checkpoints' / 'ended').name}" in out[0]


def test_a_second_run_in_a_jobs_folder_ends_at_all_processes(here: Path) -> None:
    with sole_writer(here / "checkpoints" / "taken", ""):
        ended = finish(start(REPO / "ds_finetune.py", "deepspeed_config.checkpoint.job_name=taken", cwd=here))
    for status, said in ended:
        assert status == 2 and "another run (process " in said and "deepspeed_config.checkpoint.job_name" in said


ORIGINALS = ["--deepspeed", "--deepspeed_config", "x", "--log-level", "info"]


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([*ORIGINALS, "--config-file", "missing.json"], 2)])
def test_the_process_ends_with_its_status_and_nothing_after_it(arguments: list[str], status: int) -> None:
    """A thread of gloo's that lets go of a tensor while Python is taken apart would abort the process."""
    told = "atexit.register(print, 'taken apart')"
    watched = f"import atexit, runpy; {told}; runpy.run_path('ds_finetune.py', {{}}, '__main__')"
    done = subprocess.run(
        [sys.executable, "-c", watched, *arguments], cwd=REPO, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status
    assert "taken apart" not in done.stdout
    assert ("usage:" in done.stdout) if status == 0 else ("missing.json" in done.stderr)


def test_what_cannot_be_written_whole_is_named_and_leaves_nothing(here: Path) -> None:
    """A limit on the size of files, met by DeepSpeed's own while a checkpoint is written."""
    settings = "deepspeed_config.checkpoint.job_name=limited deepspeed_config.tensorboard.enabled=false"
    said = run(here, f"ulimit -f 24; ! deepspeed --num_accelerators 1 ds_finetune.py {settings}").stderr
    assert "checkpoints/limited/step_" in said and "is larger than files may be here (ulimit -f" in said, said
    assert "Traceback" not in said
    assert not (here / "checkpoints" / "limited").exists()
