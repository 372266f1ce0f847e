"""Answers that the model writes while it trains: scored, shown, and the best checkpoint kept by them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callama.common.errors import CallamaError, UsageError
from callama.contract.messages import Message
from callama.data.dataset import Dataset
from callama.evaluate.cases import cases_of
from callama.evaluate.rates import rates
from callama.generate.engine import Generator
from callama.model.lora import add_lora
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer
from callama.train import loop
from callama.train.best import begin_scores
from callama.train.checkpoint import Progress, step_folders
from callama.train.loop import train
from callama.train.questions import MAX_NEW_TOKENS, Questions
from callama.train.watch import Sums
from callama.weights.adapter import find_adapter, load_adapter, read_adapter
from callama.weights.native import build_model, read_native
from tests import tiny
from tests.train.conftest import Configure
from tests.train.reference import assert_bit_equal


@pytest.fixture
def asking(world: Path, configure: Configure) -> Callable[..., Any]:
    """A configuration that validates every eighth step on questions of its training data, which it learns by heart."""

    def make(job: str = "run", **changes: Any) -> Any:
        validation = {"dataset_sources": [str(world / "built" / "train.arrow")], "interval": 8, "questions": 6}
        values = {"validation": validation, "train__num_epochs": 4, "tensorboard__enabled": True} | changes
        return configure(job, **values)

    return make


def told(message: Message) -> tuple[str | None, list[tuple[str, Any]]]:
    """What a message says, without the ids of its calls."""
    return message.content, [(call.name, call.arguments) for call in message.tool_calls]


def test_questions_are_the_prompts_of_the_conversations_they_come_from(world: Path, asking: Callable[..., Any]) -> None:
    config = asking(validation__questions=99)
    questions = Questions(config, *loop.start(config)).sample
    renderer = Renderer(load_tokenizer(world / "model"))
    cases = [(renderer.prompt(c.prompt), told(c.expected)) for c in cases_of(map(tiny.conversation, range(40)))]
    asked = [(question.prompt, told(question.case.expected)) for question in questions]
    assert len(asked) == len(Dataset(world / "built" / "train.arrow"))
    assert all(question in cases for question in asked)
    assert {bool(calls) for _, (_, calls) in asked} == {True, False}
    few = asking(validation__questions=5)
    fewer = Questions(few, *loop.start(few)).sample
    assert len(fewer) == 5 and fewer[0] == questions[0]


def test_answers_are_those_of_the_adapted_model(world: Path, asking: Callable[..., Any], job: Path) -> None:
    train(asking(model_config__hidden_dropout=0.1))
    config = asking()
    run, engine = loop.start(config)
    load_adapter(run.model, read_adapter(find_adapter(job), run.params))
    answers = Questions(config, run, engine).ask()
    assert answers is not None and answers.asked == 6
    checkpoint = read_native(world / "model")
    model = add_lora(build_model(checkpoint, dtype=torch.float32), config.lora.params())
    load_adapter(model, read_adapter(find_adapter(job), checkpoint.params))
    renderer = Renderer(run.tokenizer)
    generator = Generator(model, renderer.stop_ids, 2)
    done = generator.generate([question.prompt for question, _ in answers.outcomes], MAX_NEW_TOKENS)
    said = [outcome.reply.text for _, outcome in answers.outcomes]
    assert said == [renderer.tokenizer.decode(generation.ids) for generation in done]
    rated = rates([outcome for _, outcome in answers.outcomes])
    for name, value in answers.scalars().items():
        assert value == pytest.approx(rated[name.removeprefix("calls/")]["rate"]), name
    events = EventAccumulator(str(config.tensorboard.folder)).Reload()
    panel = events.Tensors("validation/answers/text_summary")[-1].tensor_proto.string_val[0].decode()
    shown = [question.showing.splitlines()[1] for question, _ in answers.outcomes]
    assert all(f"    {line}" in panel for line in shown + said[0].splitlines())
    assert "namespace functions" not in panel, "the tools would hide what matters"


def test_asking_does_not_disturb_training(asking: Callable[..., Any], tmp_path: Path) -> None:
    dropout = {"lora_config__lora_dropout": 0.3, "train__num_epochs": 2}
    train(asking("with", **dropout))
    train(asking("without", **dropout, validation__questions=0))
    assert_bit_equal(find_adapter(tmp_path / "with" / "job"), find_adapter(tmp_path / "without" / "job"))


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the validations of a run find."""

    def script(*values: float) -> None:
        coming = iter(values)

        def found(*_: object) -> Sums:
            sums = Sums()
            sums.counts[1], sums.losses[1] = 1, next(coming)
            return sums

        monkeypatch.setattr(loop, "validate", found)

    return script


def test_the_best_checkpoint_is_kept(asking: Callable[..., Any], job: Path, losses: Callable[..., None]) -> None:
    losses(3.0, 2.0, 4.0, 2.5)
    result = train(asking(checkpoint__keep=1, validation__questions=0))
    assert [p.name for p in step_folders(job)] == ["step_000016", "step_000032"]
    assert (job / "best").read_text().strip() == "step_000016" == Path(result["best_checkpoint"]).name
    assert (job / "latest").read_text().strip() == "step_000032"
    assert result["best_score"] == [-2.0]


def test_a_run_that_gets_no_better_ends_early_and_stays_ended(
    asking: Callable[..., Any], job: Path, losses: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    losses(3.0, 2.0, 2.0, 2.5, 1.0)
    config = asking(validation__questions=0, validation__patience=2, train__num_epochs=9)
    result = train(config)
    assert (result["step"], result["best_step"], result["waited"]) == (32, 16, 2)
    assert "2 validations without a better loss; the best was at step 16" in capsys.readouterr().err
    assert train(config, resume=True)["step"] == 32
    patient = asking(validation__questions=0, validation__patience=3, train__num_epochs=5)
    with pytest.raises(CallamaError, match="num_epochs was 9"):
        train(patient, resume=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dataset_sources": "other"}, "the validation data"),
        ({"dataset_sources": "copy"}, ""),
        ({"steps": 7, "batch_size": 3}, "validation.steps and validation.batch_size"),
        ({"interval": 4}, ""),
    ],
)
def test_scores_of_another_measure_do_not_count(
    world: Path, tmp_path: Path, asking: Callable[..., Any], losses: Callable[..., None],
    capsys: pytest.CaptureFixture[str], change: dict[str, Any], named: str,
) -> None:  # fmt: skip
    """The first run gave up; by another measure it goes on from there."""
    losses(0.5, 2.0, 2.0, 1.5)
    validation = {"dataset_sources": [str(world / "built" / "train.arrow")], "interval": 8, "patience": 2}
    assert train(asking(validation=dict(validation)))["step"] == 24
    if side := {"other": "validation", "copy": "train"}.get(change.get("dataset_sources", "")):
        shutil.copytree(world / "built", tmp_path / "built")
        change = {"dataset_sources": [str(tmp_path / "built" / f"{side}.arrow")]}
    capsys.readouterr()
    result = train(asking(validation=validation | change), resume=True)
    said = capsys.readouterr().err
    assert (result["step"], result["best_step"], result["waited"]) == ((32, 32, 0) if named else (24, 8, 2))
    assert ("scores start anew, since earlier ones" in said) == bool(named)
    assert not named or f": changed since the checkpoint: {named}\n" in said


def test_a_checkpoint_that_does_not_say_what_was_measured_keeps_its_scores(world: Path, configure: Configure) -> None:
    """As those of earlier versions."""
    config = configure(validation={"dataset_sources": [str(world / "built" / "train.arrow")], "steps": 3})
    run = SimpleNamespace(validation_data=Dataset(world / "built" / "train.arrow"))
    earlier = Progress(4, 4, best_by="loss", best_score=[-0.5], best_step=2, waited=1)
    assert begin_scores(config, run, earlier) == "" and earlier.waited == 1  # type: ignore[arg-type]
    by_calls = config.changed("validation.best_by=calls", "validation.questions=3")
    assert begin_scores(by_calls, run, earlier).endswith(" validation.best_by")  # type: ignore[arg-type]
    assert (earlier.best_score, earlier.waited) == ([], 0)
    more = by_calls.changed("validation.questions=4")
    assert begin_scores(more, run, earlier).endswith(" validation.questions")  # type: ignore[arg-type]


def test_best_by_calls_needs_questions(asking: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=r"best_by is 'calls' and validation\.questions is 0"):
        train(asking(validation__questions=0, validation__best_by="calls"))


def test_the_best_by_calls_has_the_most_right_answers(asking: Callable[..., Any], job: Path) -> None:
    config = asking(validation__best_by="calls", train__num_epochs=10, scheduler__max_lr=2e-2)
    result = train(config)
    events = EventAccumulator(str(config.tensorboard.folder)).Reload()
    right = {event.step: event.value for event in events.Scalars("calls/right_turn")}
    assert right[result["best_step"]] == max(right.values()) > 0
    assert result["best_score"][0] == pytest.approx(max(right.values()))
