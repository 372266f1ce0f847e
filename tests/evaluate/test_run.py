"""Evaluation end to end on real models: a random one, and the same one taught by a short training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.common.files import sha256_file
from callama.contract.messages import Conversation, Message
from callama.evaluate.report import RATES
from callama.evaluate.run import answer_cases, evaluate, load_cases
from callama.generate.chat import ChatModel
from callama.train.config import load_config
from callama.train.loop import train
from callama.weights.merge import merge_to_folder
from tests import tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With ``tuned`` beside ``model``: trained until it writes calls."""
    root = tiny.write_all(tmp_path_factory.mktemp("world"), count=16)
    values = tiny.settings(
        root, root / "checkpoints", train__num_epochs=50, lora_config__lora_rank=32, scheduler__max_lr=3e-2,
        steps_per_print=100,
    )  # fmt: skip
    train(load_config(tiny.write_settings(root / "config.json", values)))
    merge_to_folder(root / "model", root / "checkpoints" / "job", root / "tuned")
    return root


def test_report_of_base_and_tuned(world: Path) -> None:
    suite = world / "conversations.jsonl"
    result = evaluate(suite, {"base": world / "model", "tuned": world / "tuned"}, max_new_tokens=60, slots=5)
    report = result.report
    assert report["suite"] == {"file": "conversations.jsonl", "sha256": sha256_file(suite), "cases": 20}
    assert set(report["base"]) == set(report["tuned"]) == {*RATES, "scenarios"}
    for model in ("base", "tuned"):
        counts = {name: report[model][name]["count"] for name in RATES}
        assert counts == {
            "parse_rate": 16,
            "right_function": 16,
            "exact_call": 16,
            "right_abstention": 4,
            "malformed": 20,
        }
        assert {n: r["count"] for n, r in report[model]["scenarios"].items()} == {"answer_from_result": 8, "single": 12}
        texts = [outcome.text for outcome in result.outcomes[model]]
        cases = [outcome.case for outcome in result.outcomes[model]]
        assert texts == ChatModel(world / {"base": "model"}.get(model, model), slots=5).answer(
            [c.prompt for c in cases], 60
        )
    assert report["base"]["parse_rate"]["hits"] == report["base"]["exact_call"]["hits"] == 0
    assert report["tuned"]["parse_rate"]["hits"] >= 8
    json.dumps(report, allow_nan=False)


def test_a_limit_takes_conversations_from_the_start(world: Path) -> None:
    cases = load_cases(world / "conversations.jsonl", 5)
    assert len(cases) == 7
    assert [c.expected for c in cases] == [
        m for i in range(5) for m in tiny.conversation(i).messages if m.role == "assistant"
    ]


def test_answers_are_cut_at_max_new_tokens(world: Path) -> None:
    model = ChatModel(world / "model", device="cpu")
    cases = load_cases(world / "conversations.jsonl", 3)
    prompts = [case.prompt for case in cases]
    texts = [outcome.text for outcome in answer_cases("base", model, cases, 4)]
    assert texts == model.answer(prompts, 4) != model.answer(prompts, 8)


def test_a_suite_without_answers_is_refused(world: Path, tmp_path: Path) -> None:
    suite = tiny.write_conversations(tmp_path / "suite.jsonl", [Conversation((Message("user", "Hello?"),))])
    with pytest.raises(CallamaError, match=r"suite\.jsonl holds no assistant turn to test"):
        evaluate(suite, {"tuned": world / "model"})
    with pytest.raises(UsageError, match=r"none\.jsonl does not exist"):
        evaluate(tmp_path / "none.jsonl", {"tuned": world / "model"})


def test_models_are_checked_before_time_is_spent_on_the_first(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="none is not a folder"):
        evaluate(world / "conversations.jsonl", {"base": world / "model", "tuned": tmp_path / "none"})
    assert "evaluating" not in capsys.readouterr().err
