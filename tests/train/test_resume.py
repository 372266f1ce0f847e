"""Resume is exact: a run that was cut and continued equals one that was not, bit for bit (trap 22)."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callama.common.errors import CallamaError, UsageError
from callama.data.build import build
from callama.train.checkpoint import step_folders
from callama.train.loop import train
from callama.train.stop import interruptible
from callama.weights.adapter import find_adapter
from tests import tiny
from tests.train.conftest import Configure
from tests.train.reference import assert_bit_equal

# Eight micro-batches an epoch, three a step: three steps an epoch, the last of two.
DROPPING = {
    "train__num_epochs": 2,
    "train__gradient_accumulation_steps": 3,
    "lora_config__lora_dropout": 0.3,
    "model_config__hidden_dropout": 0.1,
    "checkpoint__keep": 99,
}


def cut_back(job: Path, step: int) -> None:
    """Puts a job back to where it stood after a step, as if it had been killed then."""
    for folder in step_folders(job):
        if int(folder.name.removeprefix("step_")) > step:
            shutil.rmtree(folder)
    (job / "latest").write_text(f"step_{step:06}\n")


@pytest.mark.parametrize("step", [1, 3, 4])
def test_trap_22_a_resumed_run_equals_an_uninterrupted_one(configure: Configure, tmp_path: Path, step: int) -> None:
    whole = configure("whole", **DROPPING)
    cut = configure("cut", **DROPPING, checkpoint__save_interval=1, tensorboard__enabled=True)
    expected = train(whole)
    train(cut)
    uncut = [(e.step, e.value) for e in EventAccumulator(str(cut.tensorboard.folder)).Reload().Scalars("train/loss")]
    cut_back(cut.checkpoint.folder, step)
    result = train(cut, resume=True)
    assert_bit_equal(find_adapter(tmp_path / "cut" / "job"), find_adapter(tmp_path / "whole" / "job"))
    for key in ("step", "total_steps", "epoch", "tokens", "supervised_tokens", "train_loss"):
        assert result[key] == expected[key], key
    curve = EventAccumulator(str(cut.tensorboard.folder)).Reload().Scalars("train/loss")
    assert [(e.step, e.value) for e in curve] == uncut
    assert [e.step for e in curve] == [1, 2, 3, 4, 5, 6]


class InterruptAt(io.StringIO):
    """Standard error that gets a signal, and its echo, as soon as the run has said ``text``."""

    def __init__(self, text: str, number: signal.Signals) -> None:
        super().__init__()
        self.text, self.number, self.sent = text, number, False

    def write(self, said: str) -> int:
        if self.text in said and not self.sent:
            self.sent = True
            signal.raise_signal(self.number)
            signal.raise_signal(self.number)
        return super().write(said)


@pytest.mark.parametrize(("moment", "number"), [("step 2/6", signal.SIGINT), ("validation at step 3", signal.SIGTERM)])
def test_a_signal_to_end_saves_and_says_how_to_go_on(
    world: Path,
    configure: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    number: signal.Signals,
) -> None:
    validation = {"dataset_sources": [str(world / "built" / "validation.arrow")], "interval": 3}
    train(configure("whole", **DROPPING, validation=validation))
    cut = configure("cut", **DROPPING, validation=validation)
    stderr = InterruptAt(moment, number)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        stopped = train(cut)
    job = cut.checkpoint.folder
    assert stderr.sent and stopped["interrupted"] and stopped["step"] < 6
    assert find_adapter(job) == job / f"step_{stopped['step']:06}" == Path(stopped["checkpoint"])
    assert f"stopped at step {stopped['step']}, saved in {find_adapter(job)}; go on with --resume" in stderr.getvalue()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not train(cut, resume=True)["interrupted"]
    assert_bit_equal(find_adapter(job), find_adapter(tmp_path / "whole" / "job"))


def test_a_second_signal_ends_the_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with interruptible() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.asked
        signal.raise_signal(signal.SIGINT)  # an echo
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_finished_run_has_nothing_left_to_do(configure: Configure, job: Path) -> None:
    train(configure())
    before = {p.name: p.stat().st_mtime_ns for p in find_adapter(job).iterdir()}
    result = train(configure(), resume=True)
    assert (result["step"], result["checkpoint"]) == (8, str(job / "step_000008"))
    json.dumps(result, allow_nan=False)
    assert {p.name: p.stat().st_mtime_ns for p in find_adapter(job).iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed was 3 in .* and is 4 now; put it back"),
        ({"lora_config__lora_rank": 8}, "lora_config.lora_rank was 4"),
        ({"scheduler__max_lr": 1e-3}, "scheduler.max_lr was 0.01"),
        ({"train__micro_batch_size": 2}, "train.micro_batch_size was 1"),
        ({"model_config__hidden_dropout": 0.2}, "model_config.hidden_dropout was 0.0"),
    ],
)
def test_changed_settings_are_refused(configure: Configure, change: dict[str, float], message: str) -> None:
    train(configure())
    with pytest.raises(CallamaError, match=message):
        train(configure(**change), resume=True)


def test_how_often_to_look_may_change(world: Path, configure: Configure, job: Path) -> None:
    train(configure(checkpoint__save_interval=1))
    cut_back(job, 7)
    validation = {"dataset_sources": [str(world / "built" / "validation.arrow")]}
    changed = configure(steps_per_print=3, checkpoint__save_interval=5, validation=validation)
    assert train(changed, resume=True)["step"] == 8


def test_changed_data_are_refused(configure: Configure, tmp_path: Path, world: Path) -> None:
    root = tmp_path / "own"
    shutil.copytree(world, root)
    train(configure(root=root))
    source = tiny.write_conversations(root / "conversations.jsonl", map(tiny.conversation, range(36)))
    build([source], root / "model", root / "built", val_ratio=0.25)
    with pytest.raises(CallamaError, match=r"train\.arrow has changed since .* was written; start over with --fresh"):
        train(configure(root=root), resume=True)


def test_there_must_be_something_to_resume(configure: Configure, job: Path) -> None:
    with pytest.raises(UsageError, match="holds no checkpoint to resume; start over with --fresh"):
        train(configure(), resume=True)
    train(configure())
    (find_adapter(job) / "trainer.pt").unlink()
    with pytest.raises(UsageError, match=r"trainer\.pt does not exist"):
        train(configure(), resume=True)


def test_a_damaged_checkpoint_is_named(configure: Configure, job: Path) -> None:
    train(configure())
    (find_adapter(job) / "trainer.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CallamaError, match=r"trainer\.pt is damaged .*older step, write its name into .*latest"):
        train(configure(), resume=True)
