"""Estimates of whole runs: from the configuration alone, from data where they are built, and refusals that help."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from callama.cli import estimate as cli
from callama.common.errors import CallamaError, UsageError
from callama.common.progress import duration
from callama.data.dataset import Dataset
from callama.data.pack import EpochPlans, MicroBatch, Sizes, collate
from callama.train import estimate as estimate_module
from callama.train import loop
from callama.train import validate as validate_module
from callama.train.config import TrainConfig, load_config
from callama.train.ds_config import load_any_config
from callama.train.engine import Engine
from callama.train.estimate import estimate, refusal
from callama.train.loop import train
from callama.train.loss import SupervisedLoss
from callama.train.setup import Run
from callama.train.watch import Sums
from tests.train.conftest import Configure

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LLAMA_3_8B = CONFIGS / "llama3_8b_24gb.json"
PLANNED = ["hardware.memory_gib=23.5"]


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_configuration_fits_the_device_that_it_names(file: Path) -> None:
    config = load_any_config(file)
    if file.stem == "demo":  # for any laptop; its data set is made when the demo runs
        config = load_any_config(
            file, ["model_config.dim=576", "model_config.n_layers=30", "model_config.n_heads=9",
                   "model_config.n_kv_heads=3", "model_config.vocab_size=49152", "hardware.memory_gib=4", "device=cpu"]
        )  # fmt: skip
    found = estimate(config)
    assert config.hardware.memory_gib is not None and found.fits
    assert found.devices == config.hardware.devices


def test_weights_of_the_8b_model_are_what_everybody_says() -> None:
    found = estimate(load_config(LLAMA_3_8B))
    assert found.parts["weights"] == 8_030_261_248 * 2
    packed = estimate(load_config(LLAMA_3_8B, ["method=qlora"]))
    assert 5.0 < packed.parts["weights"] / 2**30 < 5.5


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["train.micro_batch_size=4"], ["train.micro_batch_size=1 train.gradient_accumulation_steps=64"]),
        (["model_config.max_seq_len=4096"], ["train.recompute=true"]),
        (["dtype=fp32"], ["train.recompute=true", "dtype=bf16"]),
        (["method=full"], ["train.recompute=true", "method=lora"]),
        (["hardware.memory_gib=12"], ["train.recompute=true", "method=qlora"]),
        (["hardware.memory_gib=4"], []),
    ],
)
def test_what_cannot_fit_is_told_what_makes_it_fit(overrides: list[str], changes: list[str]) -> None:
    found = estimate(load_config(LLAMA_3_8B, PLANNED + overrides))
    assert not found.fits and found.changes == changes
    if changes:
        assert estimate(load_config(LLAMA_3_8B, [*PLANNED, *overrides, *" ".join(changes).split()])).fits
        assert "it fits with " + " ".join(changes) in refusal(found)
    else:
        assert "no setting makes it fit" in refusal(found)


def test_lengths_are_shortened_last_and_to_what_fits() -> None:
    found = estimate(load_config(LLAMA_3_8B, ["hardware.memory_gib=7.2", "model_config.max_seq_len=8192"]))
    assert found.changes[-1].startswith("model_config.max_seq_len=") and len(found.changes) == 3
    fitting = ["hardware.memory_gib=7.2", *found.changes]
    assert estimate(load_config(LLAMA_3_8B, fitting)).fits


def test_data_that_are_too_long_may_be_built_again(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else makes it fit; such data are counted as whole sequences."""
    config = configure(model_config__max_seq_len=2048, train__recompute=True, method="qlora", dtype="bf16")

    def counted(sizes: Sizes, seed: int, budget: int) -> EpochPlans:
        if budget < 2048:
            raise CallamaError("a conversation has more tokens")
        return EpochPlans(sizes, seed, budget)

    monkeypatch.setattr(estimate_module, "EpochPlans", counted)
    needed = estimate(config, here=True)
    monkeypatch.setattr(estimate_module, "_available", lambda device: (0, needed.peak - needed.program - 1))
    found = estimate(config, here=True)
    assert not found.fits and found.changes == ["model_config.max_seq_len=1024"]
    assert refusal(found).endswith("it fits with model_config.max_seq_len=1024, and data built with --max-tokens 1024")


def test_data_that_are_short_enough_need_not_be_built_again(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(
        model_config__max_seq_len=1024, train__micro_batch_size=1, train__recompute=True, method="qlora", dtype="bf16"
    )
    needed = estimate(config, here=True)
    monkeypatch.setattr(estimate_module, "_available", lambda device: (0, needed.peak - needed.program - 1))
    found = estimate(config, here=True)
    assert found.changes == ["model_config.max_seq_len=512"]
    assert refusal(found).endswith("it fits with model_config.max_seq_len=512")


def test_the_largest_micro_batch_of_the_data_is_counted(world: Path, configure: Configure) -> None:
    config = configure(train__micro_batch_size=2, train__num_epochs=3, train__gradient_accumulation_steps=2)
    found = estimate(config, here=True)
    data = Dataset(config.train.dataset_sources[0])
    batches = EpochPlans(Sizes.of(data), config.seed, 2 * config.model.max_seq_len)[0]
    laid = [collate(data, batch) for batch in batches]
    assert found.load.documents in [batch.documents for batch in laid]
    chosen = next(batch for batch in laid if batch.documents == found.load.documents)
    assert found.load.supervised == int(chosen.supervised.sum())
    assert found.steps == train(config)["step"]


def test_time_is_measured_where_the_device_is_here(configure: Configure) -> None:
    assert estimate(configure(), here=True).seconds_per_step is None
    timed = estimate(configure(), here=True, timed=True)
    assert timed.seconds_per_step is not None
    low, high = timed.seconds_per_step
    assert 0 < low <= high < 60
    assert estimate(load_config(LLAMA_3_8B), timed=True).seconds_per_step is None


@pytest.mark.parametrize(("minutes", "least", "most"), [(None, 200, 400), (5, 200, 300), (1, 60, 60), (9, 200, 400)])
def test_time_ends_with_max_minutes(
    configure: Configure, capsys: pytest.CaptureFixture[str], minutes: float | None, least: float, most: float
) -> None:
    known = estimate(configure(train__max_minutes=minutes), here=True)
    found = replace(known, steps=100, seconds_per_step=(2.0, 4.0))
    assert found.seconds == (least, most) and found.as_dict()["seconds"] == (least, most)
    assert replace(known, steps=None).seconds is None and known.seconds is None
    cli._print(found)
    said = capsys.readouterr().out
    assert f"100 steps: {duration(least)} to {duration(most)}" in said
    assert ("train.max_minutes ends it after" in said) == (least < 200)
    assert ("train.max_minutes may end it after" in said) == (most < 400 and least == 200)


def test_validations_are_counted_and_the_last_comes_behind_the_limit(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    known = replace(estimate(configure(), here=True), steps=100, seconds_per_step=(2.0, 4.0))
    found = replace(known, validation=(10.0, 30.0), validations=3)
    assert found.seconds == (200 + 30, 400 + 90)
    limited = replace(found, max_minutes=5.0)
    assert limited.seconds == (230, 300 + 30)
    cli._print(limited)
    said = capsys.readouterr().out
    assert "100 steps and 3 validations of 10.0 to 30.0 s: 3:50 to 5:30 (train.max_minutes may end it" in said
    assert "without answers to validation.questions, checkpoints" in said
    assert replace(found, max_minutes=1.0).seconds == (70, 90)


@pytest.mark.parametrize(("interval", "validations"), [(3, 3), (4, 2), (5, 2), (8, 1), (100, 1)])
def test_validations_are_as_many_and_as_long_as_the_runs(
    world: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch, interval: int, validations: int
) -> None:
    read: list[int] = []

    def validate(config: TrainConfig, run: Run, engine: Engine) -> Sums:
        loss = engine.loss

        def counted(batch: MicroBatch) -> SupervisedLoss:
            read[-1] += batch.inputs.numel()
            return loss(batch)

        read.append(0)
        monkeypatch.setattr(engine, "loss", counted)
        sums = validate_module.validate(config, run, engine)
        monkeypatch.setattr(engine, "loss", loss)
        return sums

    monkeypatch.setattr(loop, "validate", validate)
    validated = {"dataset_sources": [str(world / "built" / "validation.arrow")], "interval": interval, "steps": 2}
    config = configure(validation=validated)
    found = estimate(config, here=True, timed=True)
    assert found.steps == train(config)["step"] == 8
    assert found.validations == len(read) == validations
    assert read == [estimate_module._tokens_validated(config)] * validations
    assert found.validation is not None and 0 < found.validation[0] <= found.validation[1] < 60
    assert found.seconds_per_step is not None and found.validation[0] < found.steps * found.seconds_per_step[1]


def test_what_is_not_validated_takes_no_time(configure: Configure) -> None:
    found = estimate(configure(), here=True, timed=True)
    assert found.validation is None and found.validations == 0


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose memory is full but for a megabyte."""
    monkeypatch.setattr(estimate_module, "_available", lambda device: (100 << 20, 101 << 20))


@pytest.mark.usefixtures("small_machine")
def test_training_refuses_to_start_what_cannot_fit(configure: Configure, job: Path) -> None:
    with pytest.raises(CallamaError, match=r"needs about 0\.1 GiB .* check_memory=false starts it all the same"):
        train(configure())
    assert not list(job.glob("step_*"))
    assert train(configure(check_memory=False))["step"] == 8


def test_a_model_that_is_neither_there_nor_described(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist, and model_config does not say the model's shape either"):
        estimate(configure(model_ckpt_file=str(tmp_path / "none" / "consolidated.pth")))


def test_params_alone_are_enough(world: Path, configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(world / "model" / "params.json", tmp_path / "bare")
    bare = estimate(configure(model_ckpt_file=str(tmp_path / "bare" / "consolidated.pth")), here=True)
    assert bare.parts["weights"] == estimate(configure(), here=True).parts["weights"]


def test_the_verb_prints_a_table_or_json_and_fails_where_it_cannot_fit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cli.estimate(LLAMA_3_8B)
    text = capsys.readouterr().out
    assert "weights         14.96 GiB" in text and "of 23.5 GiB: fits" in text
    cli.estimate(LLAMA_3_8B, as_json=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["fits"] and found["parts"]["weights"] == 8_030_261_248 * 2
    with pytest.raises(CallamaError, match=r"it fits with train\.recompute=true"):
        cli.estimate(LLAMA_3_8B, ["model_config.max_seq_len=4096"])
    assert "does not fit" in capsys.readouterr().out
