"""``evaluate`` from the command line: how long answers may be, what a slip costs, what is asked anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from callama.contract.messages import ToolCall
from callama.evaluate.endpoint import ENDPOINT_TOKENS
from callama.evaluate.journal import require_own
from callama.evaluate.local import LEAST_TOKENS, LEAST_TOKENS_OF_STEPS, LocalModel, enough_tokens
from callama.evaluate.suites import load_file
from tests import tiny
from tests.cli.conftest import Done, RunHere
from tests.evaluate.stub_server import completion, serving

Callama = Callable[..., Done]
LONG = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch " * 4


@pytest.fixture
def callama(here: RunHere) -> Callama:
    return partial(here, "callama", "evaluate")


@pytest.fixture
def long_suite(tmp_path: Path) -> Path:
    """One conversation whose wanted call is longer than the least."""
    whole = tiny.conversation(1)
    asked, answer = whole.messages
    call = ToolCall(answer.tool_calls[0].name, {"city": LONG}, "x")
    return tiny.write_conversations(
        tmp_path / "long.jsonl", [replace(whole, messages=(asked, replace(answer, tool_calls=(call,))))]
    )


def test_without_a_limit_every_wanted_call_fits(callama: Callama, world: Path, long_suite: Path) -> None:
    cases = load_file(long_suite).cases
    (length,) = LocalModel(world / "model", max_new_tokens=1, slots=1).calls_too_long(cases)
    enough = enough_tokens(world / "model", cases)
    assert LEAST_TOKENS < length * 1.25 <= enough < length * 1.25 + 1
    done = callama(long_suite, "--model", world / "model", "--examples", "0", "--json")
    assert done.status == 0 and "longer than" not in done.err
    assert done.last_json["decoding"]["max_new_tokens"] == done.last_json["models"]["tuned"]["max_new_tokens"] == enough
    strict = callama(long_suite, "--model", world / "model", "--max-new-tokens", "160", "--json")
    assert "wanted calls of 1 of 1 cases are longer than --max-new-tokens 160" in strict.err
    assert strict.last_json["decoding"]["max_new_tokens"] == 160


def test_two_checkpoints_have_the_room_that_one_needs(
    callama: Callama, world: Path, long_suite: Path, tmp_path: Path
) -> None:
    """The base here has a token for every byte."""
    tiny.write_tokenizer(tmp_path / "tokenizer.json", vocab_size=260)
    base, cases = tiny.write_checkpoint(tmp_path / "bytes", tmp_path / "tokenizer.json"), load_file(long_suite).cases
    more = enough_tokens(base, cases)
    assert more > enough_tokens(world / "model", cases)
    for first, second in ((base, world / "model"), (world / "model", base)):
        report = callama(long_suite, "--model", first, "--base", second, "--limit", "1", "--json").last_json
        assert {report["models"][name]["max_new_tokens"] for name in ("base", "tuned")} == {more}


def test_short_calls_and_the_steps_of_dialogues_have_the_least(world: Path) -> None:
    cases = load_file(world / "conversations.jsonl").cases
    assert enough_tokens(world / "model", cases) == LEAST_TOKENS
    steps = [replace(case, by_effect=True) for case in cases]
    assert enough_tokens(world / "model", steps) == LEAST_TOKENS_OF_STEPS


@pytest.mark.parametrize("content", [b"caf\xe9", b""])
def test_a_text_that_cannot_be_read_costs_no_answers(callama: Callama, world: Path, content: bytes) -> None:
    Path("t.txt").write_bytes(content)
    done = callama(world / "conversations.jsonl", "--model", world / "model", "--text", "t.txt", "--out", "r.json")
    assert (done.status, done.out) == (1, "") and done.err.startswith("error: t.txt ")
    assert not Path("r.answers.jsonl").exists()


def test_the_report_is_there_before_the_text_is_read(
    callama: Callama, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("t.txt").write_text("The weather in Oslo is 7.")
    arguments = [world / "conversations.jsonl", "--model", world / "model", "--limit", "2", "--max-new-tokens", "4",
                 "--text", "t.txt", "--out", "r.json", "--json"]  # fmt: skip

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("callama.cli.evaluate.perplexity", stopped)
        assert callama(*arguments).status == 130
    report = json.loads(Path("r.json").read_text())
    assert report["tuned"]["right_turn"]["count"] == 3 and "text" not in report
    whole = callama(*arguments).last_json
    assert whole["text"]["tuned"]["windows"] == 1 and whole == json.loads(Path("r.json").read_text())


def test_a_server_that_takes_no_temperature(callama: Callama, world: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        refused = {"error": {"message": "'temperature' does not support 0.0 with this model."}}
        return (400, {}, refused) if "temperature" in body else (200, {}, completion("Warm."))

    with serving(answer) as (url, requests):
        done = callama(world / "conversations.jsonl", "--limit", "2", "--endpoint", url, "--model", "m", "--json")
    assert done.last_json["decoding"]["temperature"] is None
    assert done.last_json["decoding"]["max_new_tokens"] == requests[-1]["body"]["max_tokens"] == ENDPOINT_TOKENS


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("r.json", '[{"messages": []}]', "r.json exists and is no report"),
        ("r.json", '{"messages": []}\n{"messages": []}\n', "r.json exists and is no report"),
        ("r.answers.jsonl", '{"messages": []}\n', "r.answers.jsonl, where the answers would be, exists and holds"),
    ],
)
def test_a_report_is_written_over_nothing_but_a_report(
    callama: Callama, world: Path, name: str, content: str, told: str
) -> None:
    Path(name).write_text(content)
    done = callama(world / "conversations.jsonl", "--model", world / "model", "--out", "r.json")
    assert done.status == 2 and told in done.err and Path(name).read_text() == content


@pytest.mark.parametrize(
    ("report", "answers"), [("", ""), (None, '{"ke'), (None, '\n{"key": "1", "reply": {}}\n'), ('{"suite": {}}', None)]
)
def test_what_an_earlier_run_left_is_no_hindrance(tmp_path: Path, report: str | None, answers: str | None) -> None:
    for name, held in (("r.json", report), ("r.answers.jsonl", answers)):
        if held is not None:
            (tmp_path / name).write_text(held)
    require_own(tmp_path / "r.json")
