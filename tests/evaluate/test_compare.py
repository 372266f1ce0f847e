"""Two evaluations side by side: every case in its place, and a page in which data can do nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from callama.cli.compare import compare as verb
from callama.common.errors import CallamaError, UsageError
from callama.common.files import write_json
from callama.common.terminal import visible
from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.contract.tool_uses import answer_segments
from callama.evaluate.cases import Case
from callama.evaluate.compare import compare
from callama.evaluate.journal import answers_file
from callama.evaluate.look.page import page
from callama.evaluate.reply import Reply
from callama.evaluate.run import evaluate
from callama.evaluate.suites import load_file
from tests import tiny
from tests.data.look.test_page import HOSTILE, assert_self_contained

FAIL = "FAIL"


class Scripted:
    """Answers case after case from a list."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.identity, self.slots = texts, {"texts": list(texts)}, 16

    def close(self) -> None:
        """Nothing to free."""

    def answer(self, cases: Sequence[Case], keep: Callable[[int, Reply], None]) -> None:
        for index in range(len(cases)):
            text = self.texts[index]
            keep(index, Reply.failed("HTTP 400") if text == FAIL else Reply.read(text))


def call(name: str, **arguments: Any) -> str:
    message = Message("assistant", None, (ToolCall(name, arguments),))
    return "".join(segment.text for segment in answer_segments(message))


CONVERSATIONS = [
    tiny.conversation(1),
    tiny.conversation(2),
    tiny.conversation(3),
    Conversation((Message("user", HOSTILE), Message("assistant", HOSTILE)), (Tool("get_tide"),), {"scenario": HOSTILE}),
]
RIGHT = [call("get_news", city="Lima"), call("get_time", city="Kyiv"), call("get_traffic", city="Bonn"), HOSTILE]
WRONG = [call("get_news", city=5), call("get_time"), "I do not know.", call("get_tide", x=HOSTILE)]


def write_report(folder: Path, models: dict[str, list[str]], name: str = "report", count: int = 4) -> Path:
    suite = tiny.write_conversations(folder / "suite.jsonl", CONVERSATIONS[:count])
    scripted = {model: Scripted(texts) for model, texts in models.items()}
    out = folder / f"{name}.json"
    write_json(out, evaluate([load_file(suite)], scripted, out=out).report)
    return out


def test_base_against_tuned_in_one_report(tmp_path: Path) -> None:
    base, tuned = [WRONG[0], RIGHT[1], WRONG[2], RIGHT[3]], [RIGHT[0], WRONG[1], WRONG[2], WRONG[3]]
    found = compare(write_report(tmp_path, {"base": base, "tuned": tuned}), None)
    assert found.names == ("base", "tuned") and (len(found.pairs), found.alone) == (4, 0)
    assert [p.first["case"] for p in found.worse] == ["1.1", "3.1"] and [p.first["case"] for p in found.better] == [
        "0.1"
    ]
    assert found.test == {"both": 0, "neither": 1, "only_first": 2, "only_second": 1, "p": 1.0}
    assert found.worse[0].first["said"] == RIGHT[1] and found.worse[0].second["said"] == WRONG[1]
    functions = {row.name: (row.first["hits"], row.second["hits"]) for row in found.by_function()}
    assert functions == {"get_news": (0, 1), "get_time": (1, 0), "get_traffic": (0, 0)}
    (row,) = found.by_argument_type()
    assert (row.name, row.first["hits"], row.first["count"]) == ("string", 1, 2)
    assert (row.second["hits"], row.second["count"]) == (1, 2)
    scenarios = {row.name: row.first["count"] for row in found.by_scenario()}
    assert scenarios == {"single": 3, HOSTILE: 1}


def test_reports_never_share_their_answers() -> None:
    files = {answers_file(Path(name)).name for name in ("m-1.5", "m-1.7", "m.json", "m.txt")}
    assert files == {"m-1.5.answers.jsonl", "m-1.7.answers.jsonl", "m.answers.jsonl", "m.txt.answers.jsonl"}


def test_two_reports_are_compared_on_what_both_have(tmp_path: Path) -> None:
    first = write_report(tmp_path, {"tuned": RIGHT}, "first")
    second = write_report(tmp_path, {"tuned": WRONG[:3]}, "second", count=3)
    found = compare(first, second)
    assert found.names == ("first", "second") and len(found.pairs) == len(found.worse) == 3 and found.alone == 1


def test_what_was_not_answered_is_told_and_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that was away is no worse model."""
    first = write_report(tmp_path, {"tuned": [RIGHT[0], WRONG[1], RIGHT[2], FAIL]}, "first")
    second = write_report(tmp_path, {"tuned": [RIGHT[0], RIGHT[1], FAIL, FAIL]}, "second")
    found = compare(first, second)
    assert (len(found.pairs), found.failed, found.left_out, found.alone) == (2, (1, 2), 2, 0)
    assert [p.first["case"] for p in found.better] == ["1.1"] and not found.worse
    assert found.test == {"both": 1, "neither": 0, "only_first": 0, "only_second": 1, "p": 1.0}
    told = "2 cases without an answer (failed: 1 by first, 2 by second) are left out"
    assert told in " ".join(assert_self_contained(page(found)).text.split())
    verb(first, second)
    assert "2 cases that not both answered were left out (failed: 1 by first, 2 by second)" in capsys.readouterr().out
    verb(first, second, as_json=True)
    assert json.loads(capsys.readouterr().out)["failed"] == [1, 2]
    with pytest.raises(CallamaError, match=r"of 3 cases .* not one .* \(not answered: 1 by base and 2 by tuned\)"):
        compare(
            write_report(tmp_path, {"base": [*RIGHT[:2], FAIL], "tuned": [FAIL, FAIL, RIGHT[2]]}, "away", count=3), None
        )


def test_arguments_are_counted_for_each_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb(write_report(tmp_path, {"base": ["No."] * 4, "tuned": RIGHT}))
    out = capsys.readouterr().out
    assert "right arguments of matched calls by type" in out
    row = next(line for line in out.splitlines() if line.startswith("│ string"))
    assert [part.strip() for part in row.split("│")][1:5] == ["string", "0", "–", "3"]


def test_the_page_is_self_contained_and_shows_every_regression(tmp_path: Path) -> None:
    found = compare(write_report(tmp_path, {"base": RIGHT, "tuned": WRONG}), None)
    html = page(found)
    read = assert_self_contained(html)
    for pair in found.worse:
        for text in (pair.first["request"], pair.first["wanted"], pair.first["said"], pair.second["said"]):
            assert " ".join(visible(text).split()) in " ".join(read.text.split())
    assert "4got worse" in read.text and "0improved" in read.text and "<script>" not in html
    assert re.findall(r'class="train" style="width:([\d.]+)%', html).count("100.00") >= 4


def test_an_answer_does_not_turn_the_page_around(tmp_path: Path) -> None:
    turning = ["\u202eright is left", "\x1b[31mred", *WRONG[2:]]
    html = page(compare(write_report(tmp_path, {"base": RIGHT, "tuned": turning}), None))
    assert "\\u202eright is left" in html and "\\u001b[31mred" in html
    assert "\u202e" not in html and "\x1b" not in html


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    report = write_report(tmp_path, {"tuned": RIGHT})
    with pytest.raises(UsageError, match=r"report\.json has no 'base'; name two reports, or evaluate with --base"):
        compare(report, None)
    with pytest.raises(UsageError, match=r"none\.json does not exist"):
        compare(report, tmp_path / "none.json")
    other = tmp_path / "other"
    other.mkdir()
    tiny.write_conversations(other / "suite.jsonl", [])
    (tmp_path / "foreign.json").write_text(json.dumps({"x": 1}))
    with pytest.raises(CallamaError, match=r"foreign\.json is no report"):
        compare(report, tmp_path / "foreign.json")
    (tmp_path / "alone.json").write_text(report.read_text())
    with pytest.raises(UsageError, match=r"alone\.answers\.jsonl does not exist; expected the answers behind alone"):
        compare(report, tmp_path / "alone.json")
    (tmp_path / "alone.answers.jsonl").write_text('{"model": "tuned"}\n')
    with pytest.raises(CallamaError, match=r"alone\.answers\.jsonl, line 1: not an answer"):
        compare(report, tmp_path / "alone.json")
