"""The loop on a tiny model: it learns, validates honestly, saves, and says what went wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest
from callama.data.dataset import Dataset
from callama.train import loop
from callama.train.checkpoint import load_trainer, step_folders
from callama.train.config import TrainConfig
from callama.train.engine import PlainEngine
from callama.train.loop import train
from callama.weights.adapter import find_adapter
from tests.train.conftest import Configure
from tests.train.reference import adapter_tensors, assert_bit_equal, mean_loss, plain_loop


def names(job: Path) -> list[str]:
    return sorted(p.name for p in job.iterdir())


def test_the_loss_falls_and_the_checkpoint_holds_what_was_learned(world: Path, configure: Configure, job: Path) -> None:
    result = train(configure(train__num_epochs=6))
    data = world / "built" / "train.arrow"
    before, after = mean_loss(world / "model", data), mean_loss(world / "model", data, find_adapter(job))
    assert after < 0.5 * before
    assert result["step"] == result["total_steps"] == 6 * 8
    assert result["checkpoint"] == str(job / "step_000048")
    rows = Dataset(data)
    assert result["supervised_tokens"] == 6 * sum(int(rows[i].supervised.sum()) for i in range(len(rows)))
    json.loads(json.dumps(result, allow_nan=False))


def test_the_curve_equals_that_of_a_textbook_loop(configure: Configure) -> None:
    """Normalised by the supervised tokens of the whole step, clipped, decayed and scheduled as torch would."""
    config = configure(
        tensorboard__enabled=True, train__num_epochs=2, train__gradient_accumulation_steps=3,
        train__gradient_clipping=0.5, optimizer={"eps": 0.1, "weight_decay": 0.1, "betas": [0.8, 0.95]},
        scheduler__max_lr=0.1,
    )  # fmt: skip
    expected = plain_loop(config)
    assert max(norm for _, norm in expected) > 0.5
    train(config)
    events = EventAccumulator(str(config.tensorboard.folder)).Reload()
    for found, column in (("train/loss", 0), ("schedule/gradient_norm", 1)):
        curve = [event.value for event in events.Scalars(found)]
        assert curve == pytest.approx([point[column] for point in expected], rel=1e-3), found


def test_trap_15_the_final_checkpoint_is_saved_whatever_the_interval(configure: Configure, job: Path) -> None:
    train(configure(checkpoint__save_interval=3))
    assert names(job) == ["latest", "step_000006", "step_000008"]
    assert (job / "latest").read_text().strip() == "step_000008"
    assert find_adapter(job) == job / "step_000008"


def test_only_the_newest_are_kept(configure: Configure, job: Path) -> None:
    train(configure(checkpoint__save_interval=1))
    assert names(job) == ["latest", "step_000007", "step_000008"]
    train(configure("other", checkpoint__save_interval=1, checkpoint__keep=4))
    assert [p.name for p in step_folders(job.parent.parent / "other" / "job")] == [
        f"step_00000{i}" for i in (5, 6, 7, 8)
    ]


def test_a_checkpoint_is_whole_and_says_where_it_comes_from(world: Path, configure: Configure, job: Path) -> None:
    config = configure(train__gradient_accumulation_steps=3)
    train(config)
    folder = find_adapter(job)
    manifest = read_manifest(folder)
    assert set(manifest["files"]) == {
        "adapter_config.json", "adapter_model.safetensors", "config.json", "lora.json", "params.json", "trainer.pt"
    }  # fmt: skip
    assert manifest["base_sha256"] == read_manifest(world / "model")["files"]["consolidated.pth"]["sha256"]
    assert manifest["data_sha256"] == read_manifest(world / "built")["files"]["train.arrow"]["sha256"]
    assert json.loads((folder / "config.json").read_text()) == config.saved()
    progress = load_trainer(folder)["progress"]
    assert (progress["step"], progress["epoch"], progress["micro_batch"]) == (3, 1, 0)
    assert all(tensor.dtype == torch.float32 for tensor in adapter_tensors(folder).values())


def test_nothing_is_saved_where_checkpoints_are_off(configure: Configure, job: Path) -> None:
    assert train(configure(checkpoint__enabled=False))["checkpoint"] is None
    assert not job.exists()


def test_trap_15_accumulation_weighs_every_supervised_token_alike(configure: Configure, tmp_path: Path) -> None:
    """Three epochs in one micro-batch each, or in eight: the same sums, so nearly the same adapters."""
    same = {"train__num_epochs": 3, "train__gradient_clipping": 0, "optimizer__eps": 1.0, "scheduler__max_lr": 0.5}
    one = train(configure("one", train__micro_batch_size=8, **same))
    many = train(configure("many", train__micro_batch_size=1, train__gradient_accumulation_steps=100, **same))
    assert one["step"] == many["step"] == 3
    large, small = (adapter_tensors(find_adapter(tmp_path / name / "job")) for name in ("one", "many"))
    for name in large:
        torch.testing.assert_close(large[name], small[name], rtol=1e-3, atol=1e-6)
    assert many["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)


@pytest.mark.parametrize("where", ["embed", "attention", "hidden"])
def test_trap_15_validation_reads_the_validation_file_with_dropout_off(
    world: Path, configure: Configure, job: Path, where: str
) -> None:
    validation = world / "built" / "validation.arrow"
    changes = {f"model_config__{where}_dropout": 0.6, "lora_config__lora_dropout": 0.6}
    result = train(configure(validation={"dataset_sources": [str(validation)], "steps": 99}, **changes))
    assert result["validation_loss"] == pytest.approx(
        mean_loss(world / "model", validation, find_adapter(job)), rel=1e-5
    )
    wrong = mean_loss(world / "model", world / "built" / "train.arrow", find_adapter(job))
    assert result["validation_loss"] != pytest.approx(wrong, rel=1e-3)
    assert 0 <= result["validation_accuracy"] <= 1


@pytest.mark.parametrize(
    "change",
    [{f"model_config__{name}_dropout": 0.5} for name in ("embed", "attention", "hidden")]
    + [{"lora_config__lora_dropout": 0.5}],
)
def test_dropout_acts_while_training(configure: Configure, change: dict[str, float]) -> None:
    assert train(configure("with", **change))["train_loss"] != train(configure("without"))["train_loss"]


def test_validation_does_not_disturb_training(world: Path, configure: Configure, tmp_path: Path) -> None:
    sources = [str(world / "built" / "validation.arrow")]
    dropout = {"lora_config__lora_dropout": 0.3}
    train(configure("with", validation={"dataset_sources": sources, "interval": 1}, **dropout))
    train(configure("without", **dropout))
    assert_bit_equal(find_adapter(tmp_path / "with" / "job"), find_adapter(tmp_path / "without" / "job"))


def test_the_same_seed_gives_the_same_adapter(configure: Configure, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(configure(name, seed=seed))
    a, b, c = (find_adapter(tmp_path / name / "job") for name in "abc")
    assert_bit_equal(a, b)
    assert any(
        not torch.equal(x, y) for x, y in zip(adapter_tensors(a).values(), adapter_tensors(c).values(), strict=True)
    )


def test_tensorboard_shows_every_curve(world: Path, configure: Configure, job: Path) -> None:
    config = configure(
        tensorboard__enabled=True,
        train__num_epochs=2,
        validation={"dataset_sources": [str(world / "built" / "validation.arrow")], "interval": 8},
    )
    result = train(config)
    events = EventAccumulator(str(config.tensorboard.folder)).Reload()
    tags = set(events.Tags()["scalars"])
    kinds = {"text", "call_syntax", "function_name", "argument_key", "argument_value", "end_of_turn"}
    assert {"train/loss", "train/accuracy", "schedule/learning_rate", "schedule/gradient_norm"} <= tags
    assert {"throughput/tokens_per_second", "memory/peak_bytes", "validation/loss", "validation/accuracy"} <= tags
    assert {f"train_loss/{kind}" for kind in kinds} <= tags
    loss, rate = events.Scalars("train/loss"), events.Scalars("schedule/learning_rate")
    assert [event.step for event in loss] == list(range(1, 17))
    assert loss[-1].value == pytest.approx(result["train_loss"], rel=1e-5)
    assert max(event.value for event in rate) == pytest.approx(1e-2, rel=1e-5)
    validation = events.Scalars("validation/loss")
    assert [event.step for event in validation] == [8, 16]
    assert validation[-1].value == pytest.approx(result["validation_loss"], rel=1e-5)
    share = [event.value for event in events.Scalars("throughput/share_of_measured_peak")]
    assert len(share) == 16 and all(0 < value < 1 for value in share)


def test_max_minutes_shortens_the_schedule_and_still_saves(configure: Configure, job: Path) -> None:
    result = train(configure(train__num_epochs=200, train__max_minutes=0.01))
    assert 5 <= result["step"] == result["total_steps"] < 200 * 8
    assert result["seconds"] < 5
    assert find_adapter(job).name == f"step_{result['step']:06}"


def test_a_limit_that_is_over_ends_a_run_before_its_pace_is_known(configure: Configure) -> None:
    result = train(configure(train__num_epochs=200, train__max_minutes=1e-6))
    assert result["step"] == result["total_steps"] == 1
    assert result["checkpoint"]


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(configure: Configure, job: Path) -> None:
    config = configure(scheduler__max_lr=1e30, scheduler__warmup_num_steps=1, checkpoint__save_interval=1)
    with pytest.raises(
        CallamaError, match=r"not finite; lower scheduler\.max_lr\. The last good checkpoint is .*step_0"
    ):
        train(config)
    kept = find_adapter(job)
    assert kept.is_dir() and kept == step_folders(job)[-1]
    assert all(math.isfinite(float(tensor.sum())) for tensor in adapter_tensors(kept).values())


def test_what_is_advised_where_a_run_breaks_can_be_done(
    configure: Configure, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed setting is refused at resume, and --fresh would remove the last good checkpoint."""
    advice = r"train anew under another checkpoint\.job_name, since --resume takes none; .*step_0+1 stays"
    broken = {"scheduler__warmup_num_steps": 1, "checkpoint__save_interval": 1}
    with pytest.raises(CallamaError, match=r"not finite; lower scheduler\.max_lr.*" + advice):
        train(configure(scheduler__max_lr=1e30, **broken))
    kept = {p.name: p.read_bytes() for p in find_adapter(job).iterdir()}
    monkeypatch.setattr(PlainEngine, "loss", out_of_memory := Mock(side_effect=MemoryError))
    with pytest.raises(CallamaError, match=r"out of memory; .*" + advice):
        train(configure(scheduler__max_lr=1e30, **broken), resume=True)
    assert out_of_memory.called
    monkeypatch.undo()
    other = configure(checkpoint__job_name="other")
    assert train(other)["step"] == 8
    assert {p.name: p.read_bytes() for p in find_adapter(job).iterdir()} == kept


def test_the_checkpoint_that_stays_is_the_one_that_latest_names(
    configure: Configure, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the newest, which a user may have put aside because it is damaged."""
    train(configure(checkpoint__save_interval=4))
    (job / "latest").write_text("step_000004\n")
    monkeypatch.setattr(PlainEngine, "loss", Mock(side_effect=MemoryError))
    with pytest.raises(CallamaError, match=r"out of memory; .*step_000004 stays"):
        train(configure(), resume=True)


@pytest.mark.parametrize("saved", [True, False])
def test_memory_that_runs_out_while_validating_costs_no_run(
    world: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    validation = {"dataset_sources": [str(world / "built" / "validation.arrow")], "interval": 3, "batch_size": 4}
    often = {"checkpoint__save_interval": 2} if saved else {}
    monkeypatch.setattr(loop, "validate", Mock(side_effect=MemoryError))
    advice = r"^out of memory while validating; set validation\.batch_size=1, and "
    again = r"go on with --resume, from .*step_000002$" if saved else "start again$"
    with pytest.raises(CallamaError, match=advice + again):
        train(configure(validation=validation, **often))
    monkeypatch.undo()
    assert train(configure(validation=validation | {"batch_size": 1}, **often), resume=saved)["step"] == 8


def test_a_loss_that_is_not_finite_without_checkpoints(configure: Configure) -> None:
    with pytest.raises(CallamaError, match=r"No checkpoint is written \(checkpoint\.enabled is false\)$"):
        train(configure(scheduler__max_lr=1e30, scheduler__warmup_num_steps=1, checkpoint__enabled=False))


def test_a_loss_that_is_not_finite_before_any_checkpoint(configure: Configure, job: Path) -> None:
    with pytest.raises(CallamaError, match="last good checkpoint is not written yet"):
        train(configure(scheduler__max_lr=1e30, scheduler__warmup_num_steps=1))
    assert step_folders(job) == []


def test_an_earlier_run_is_neither_continued_nor_lost_by_accident(configure: Configure, job: Path) -> None:
    train(configure(checkpoint__save_interval=3))
    before = names(job)
    with pytest.raises(UsageError, match="--resume goes on, --fresh starts over"):
        train(configure())
    assert names(job) == before
    train(configure(), fresh=True)
    assert names(job) == ["latest", "step_000008"]


@pytest.mark.parametrize("how", [{}, {"fresh": True}, {"resume": True}])
def test_a_second_run_in_a_jobs_folder_is_refused(
    configure: Configure, job: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, bool]
) -> None:
    """From before the first one's first checkpoint."""
    seen, real = [], loop.start

    def second(config: TrainConfig) -> Any:
        with pytest.raises(
            UsageError, match=r"another run \(process \d+ on .*job: wait .*another checkpoint\.job_name"
        ):
            train(configure(), **how)
        seen.append(names(job))
        return real(config)

    monkeypatch.setattr(loop, "start", second)
    train(configure())
    assert seen == [[".lock"]] and names(job) == ["latest", "step_000008"]


def test_fresh_removes_nothing_before_the_new_run_can_start(configure: Configure, job: Path, tmp_path: Path) -> None:
    train(configure())
    (job / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="does not exist"):
        train(configure(train__dataset_sources=[str(tmp_path / "none.arrow")]), fresh=True)
    assert names(job) == ["latest", "notes.txt", "step_000008"]
    train(configure(train__gradient_accumulation_steps=2), fresh=True)
    assert names(job) == ["latest", "notes.txt", "step_000004"]


@pytest.mark.parametrize("base", [".", "step_000008", "step_000008/consolidated.pth"])
def test_a_job_does_not_start_from_a_checkpoint_that_it_would_remove(
    configure: Configure, job: Path, base: str
) -> None:
    train(configure(method="full"))
    (step,) = job.glob("step_*")
    assert (job / base).exists()
    own = str(job / base)
    for flags in ({}, {"fresh": True}, {"resume": True}):
        with pytest.raises(UsageError, match=r"is a checkpoint of this job itself.*another checkpoint\.job_name"):
            train(configure(method="full", model_ckpt_file=own), **flags)
    assert (step / "consolidated.pth").is_file()
    assert train(configure(method="full", model_ckpt_file=own, checkpoint__job_name="next"))["step"] == 8


def test_a_fresh_run_starts_its_curves_over(configure: Configure) -> None:
    train(configure(tensorboard__enabled=True))
    config = configure(tensorboard__enabled=True, train__gradient_accumulation_steps=2)
    train(config, fresh=True)
    events = EventAccumulator(str(config.tensorboard.folder)).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]


def test_a_rate_that_only_rises_and_a_run_at_its_end_are_told(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(scheduler__warmup_num_steps=300)
    train(config)
    assert "scheduler.warmup_num_steps is 300 and the run has 8 steps: the rate only rises" in capsys.readouterr().err
    train(config, resume=True)
    assert "nothing is left to do: all 8 steps are done; to train on, start from" in capsys.readouterr().err
    train(configure(job="other"))
    said = capsys.readouterr().err
    assert "only rises" not in said and "nothing is left" not in said
