"""Resume is exact: a run that was cut and continued equals one that was not, bit for bit (trap 22)."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callama.cli.main import main
from callama.common.errors import CallamaError, UsageError
from callama.common.files import MANIFEST
from callama.common.signals import ENDING
from callama.data.build import build
from callama.train import setup
from callama.train.checkpoint import step_folders
from callama.train.loop import start, train
from callama.train.stop import interruptible
from callama.weights.adapter import find_adapter
from callama.weights.pth import contents
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


@pytest.fixture
def handlers_stay() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    signal.signal(signal.SIGINT, signal.default_int_handler)  # and in the background
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers_stay")
@pytest.mark.parametrize(
    ("number", "status", "last"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
)
@pytest.mark.parametrize("arguments", [(), ("--json",)], ids=["lines", "json"])
def test_a_run_that_a_signal_ended_says_so_by_its_status(
    configure: Configure,
    tmp_path: Path,
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
    last: str,
    arguments: tuple[str, ...],
) -> None:
    """``callama train … && callama merge …`` must not go on with a part of a training."""
    configure()
    stderr = InterruptAt("step 2/8", number)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(sys, "argv", ["callama", "train", str(tmp_path / "config.json"), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code == status
    assert "go on with --resume" in stderr.getvalue() and stderr.getvalue().endswith(f"{last}\n")
    if arguments:
        result = json.loads(out)
        assert (result["interrupted"], result["ended_by"]) == (True, number.name)
    else:
        assert f"checkpoint: {find_adapter(job)}" in out


@pytest.mark.usefixtures("handlers_stay")
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


@pytest.mark.parametrize("same", [True, False])
def test_files_elsewhere_are_the_same_by_what_they_contain(
    configure: Configure, tmp_path: Path, job: Path, world: Path, same: bool
) -> None:
    """And what nothing reads may change too."""
    train(configure("whole"))
    train(configure(checkpoint__save_interval=4))
    cut_back(job, 4)
    root = tmp_path / "moved"
    shutil.copytree(world, root)
    unread = {"name": "x", "optimizer__lr": 1e-3, "model_config__max_batch_size": 4}
    moved = {"model_ckpt_file": str(root / "model"), "tokenizer_file": str(root / "model" / "tokenizer.json")}
    if not same:
        shutil.copyfile(root / "built" / "validation.arrow", root / "built" / "train.arrow")
        with pytest.raises(CallamaError, match=r"moved/built/train\.arrow has changed since"):
            train(configure(root=root, **unread, **moved), resume=True)
        return
    assert train(configure(root=root, **unread, **moved), resume=True)["step"] == 8
    assert_bit_equal(find_adapter(job), find_adapter(tmp_path / "whole" / "job"))


def test_changed_data_are_refused(configure: Configure, tmp_path: Path, world: Path) -> None:
    root = tmp_path / "own"
    shutil.copytree(world, root)
    train(configure(root=root))
    source = tiny.write_conversations(root / "conversations.jsonl", map(tiny.conversation, range(36)))
    build([source], root / "model", root / "built", val_ratio=0.25)
    with pytest.raises(
        CallamaError, match=r"train\.arrow has changed since .* was written; put the earlier one back, or start over"
    ):
        train(configure(root=root), resume=True)


@pytest.mark.parametrize("told", [True, False], ids=["manifest", "no-manifest"])
@pytest.mark.parametrize(
    ("file", "other", "message"),
    [
        (
            "built/train.arrow",
            "built/validation.arrow",
            r"train\.arrow has changed since .* was written; put the earlier",
        ),
        ("model/consolidated.pth", "another/consolidated.pth", r"weights in .*consolidated\.pth have changed since"),
    ],
)
def test_files_that_changed_are_refused_whatever_a_manifest_says(
    configure: Configure, tmp_path: Path, world: Path, told: bool, file: str, other: str, message: str
) -> None:
    """A manifest that is there may be an older file's, or of a folder that was made anew."""
    root = tmp_path / "own"
    shutil.copytree(world, root)
    tiny.write_checkpoint(root / "another", root / "tokenizer.json", seed=77)
    model = file.startswith("model")
    if not told:
        for folder in ("model", "built", "another"):
            (root / folder / MANIFEST).unlink()
    train(configure(root=root))
    shutil.copyfile(root / other, root / file)
    if told and model:
        shutil.copyfile(root / "another" / MANIFEST, root / "model" / MANIFEST)
    with pytest.raises(CallamaError, match=message):
        train(configure(root=root), resume=True)


@pytest.mark.parametrize("told", [True, False], ids=["fact", "no-fact"])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rope_theta": 5e5}, "rope_theta of the base, .*, was 10000.0 when .* and is 500000.0 now"),
        ({"norm_eps": 1e-2}, "norm_eps of the base"),
        ({"use_scaled_rope": True}, "use_scaled_rope of the base, .*, was False when"),
    ],
)
def test_a_base_of_other_constants_is_refused(
    configure: Configure, tmp_path: Path, job: Path, world: Path, told: bool, changes: dict[str, float], named: str
) -> None:
    """They stand beside the weights; checkpoints of before had no fact about them."""
    root = tmp_path / "own"
    shutil.copytree(world, root)
    (root / "model" / MANIFEST).unlink()
    train(configure(root=root))
    if not told:
        manifest = json.loads((find_adapter(job) / MANIFEST).read_text())
        del manifest["base_params"]
        (find_adapter(job) / MANIFEST).write_text(json.dumps(manifest))
    train(configure(root=root), resume=True)
    params = root / "model" / "params.json"
    params.write_text(json.dumps(json.loads(params.read_text()) | changes))
    with pytest.raises(CallamaError, match=f"{named}.*; put the earlier params.json back, or start over"):
        train(configure(root=root), resume=True)


def test_the_same_weights_without_checksums_are_told_by_their_bytes(tmp_path: Path, world: Path) -> None:
    state = torch.load(world / "model" / "consolidated.pth", weights_only=True)
    found = set()
    torch.serialization.set_crc32_options(False)
    try:
        for change in (0.0, 0.0, 1.0):
            next(iter(state.values())).flatten()[0] += change
            torch.save(state, tmp_path / "weights.pth")
            found.add(contents(tmp_path / "weights.pth"))
    finally:
        torch.serialization.set_crc32_options(True)
    assert len(found) == 2


@pytest.mark.parametrize("method", ["lora", "full"])
def test_another_precision_is_refused_where_auto_chose_it(
    configure: Configure, job: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    chosen = torch.bfloat16
    monkeypatch.setattr(setup, "choose_dtype", lambda name, device: {"bf16": torch.bfloat16}.get(name, chosen))
    train(configure(dtype="auto", method=method, checkpoint__save_interval=4))
    cut_back(job, 4)
    chosen = torch.float32
    with pytest.raises(
        CallamaError, match=r"was computed in bf16, and this run would compute in fp32 on cpu.*dtype=bf16"
    ):
        train(configure(dtype="auto", method=method), resume=True)
    assert train(configure(dtype="bf16", method=method), resume=True)["step"] == 8


def test_a_section_that_is_left_out_is_a_changed_setting(configure: Configure, job: Path) -> None:
    """A run of DeepSpeed's, resumed by the plain engine."""
    train(configure())
    file = find_adapter(job) / "config.json"
    settings = json.loads(file.read_text()) | {"zero_optimization": {"stage": 2, "offload_optimizer": None}}
    file.write_text(json.dumps(settings))
    manifest = json.loads((file.parent / MANIFEST).read_text())
    del manifest["files"][file.name]
    (file.parent / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CallamaError, match=r"zero_optimization\.stage was 2 in .* and is not set now; put it back"):
        train(configure(), resume=True)


def test_the_state_of_another_engine_is_refused(configure: Configure, job: Path) -> None:
    train(configure())
    _, engine = start(configure())
    with pytest.raises(CallamaError, match=r"trainer\.pt has not the optimizer's state .*expected 'param_groups'"):
        engine.load_state(find_adapter(job), {"ranks": 2})


@pytest.mark.parametrize("latest", [None, ""], ids=["none", "empty"])
def test_without_latest_the_newest_whole_checkpoint_counts(configure: Configure, job: Path, latest: str | None) -> None:
    """As a run leaves it that was killed between a checkpoint's rename and ``latest``."""
    train(configure(checkpoint__save_interval=4))
    (job / "latest").unlink()
    if latest is not None:
        (job / "latest").write_text(latest)
    with pytest.raises(UsageError, match="--resume goes on"):
        train(configure())
    result = train(configure(), resume=True)
    assert (result["step"], result["checkpoint"]) == (8, str(job / "step_000008"))
    assert (job / "latest").read_text().strip() == "step_000008"


def test_there_must_be_something_to_resume(configure: Configure, job: Path) -> None:
    with pytest.raises(UsageError, match="holds no checkpoint to resume; start over with --fresh"):
        train(configure(), resume=True)


def test_a_damaged_checkpoint_is_named(configure: Configure, job: Path) -> None:
    train(configure())
    (find_adapter(job) / "trainer.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CallamaError, match=r"trainer\.pt is damaged .*older step, write its name into .*latest"):
        train(configure(), resume=True)


def flip(file: Path) -> None:
    """One byte of the largest tensor's numbers."""
    with zipfile.ZipFile(file) as archive:
        info = max((i for i in archive.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
    content = bytearray(file.read_bytes())
    content[info.header_offset + 200 + info.file_size // 2] ^= 0x55
    file.write_bytes(content)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() == info.filename


@pytest.mark.parametrize(
    ("file", "method"), [("trainer.pt", "lora"), ("trainer.pt", "full"), ("consolidated.pth", "full")]
)
def test_a_byte_that_flipped_is_not_gone_on_from(configure: Configure, job: Path, file: str, method: str) -> None:
    config = configure(method=method, checkpoint__save_interval=4)
    train(config)
    flip(find_adapter(job) / file)
    with pytest.raises(
        CallamaError, match=rf"step_000008/{file} is damaged .*older step, write its name into .*latest"
    ):
        train(config, resume=True)
    (job / "latest").write_text("step_000004\n")
    assert train(config, resume=True)["step"] == 8
