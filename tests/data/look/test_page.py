"""The page: it says what the files say, and nothing that stands in the data can act in it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import CallamaError
from callama.common.html import charts
from callama.common.html.charts import Count
from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.data.build import build
from callama.data.clean import clean_files
from callama.data.look.page import page
from callama.data.look.source import open_source
from callama.data.look.survey import survey
from tests import tiny

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\u202e'


class Reader(HTMLParser):
    """Tags and attributes of a page, its text, and tags that stay open."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json").file


def hostile() -> Conversation:
    call = ToolCall("get_news", {HOSTILE: HOSTILE})
    return Conversation(
        (Message("user", HOSTILE), Message("assistant", HOSTILE, (call,))),
        (Tool("get_news", HOSTILE),),
        {"scenario": HOSTILE},
    )


def assert_self_contained(html: str) -> Reader:
    read = Reader(html)
    assert not read.open
    assert not set(read.tags) & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "a"}
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in ("src", "href", "srcset")]
    assert not re.search(r"url\(|@import", html) and "default-src 'none'" in html
    return read


def test_a_built_set_is_told_in_numbers(tmp_path: Path, tokenizer: Path) -> None:
    unlearnable = [Conversation((Message("user", "only a question"),)), Conversation((Message("user", HOSTILE),))]
    rows = [*map(tiny.conversation, range(40)), hostile(), *unlearnable]
    source = tiny.write_conversations(tmp_path / "in.jsonl", rows)
    metadata = build([source], tokenizer, tmp_path / "built", val_ratio=0.25, train_on="last")
    found = survey(open_source(tmp_path / "built", None))
    assert (found.read, found.kept, found.dropped) == (43, 41, 2)
    assert {side: tally.report() for side, tally in found.sides.items()} == {
        side: metadata[side] for side in ("train", "validation")
    }
    assert found.counts == {
        "dropped by the build": [Count("no_answer", 2, "no assistant message to learn from")],
    }
    assert [d.where for d in found.defects["no_answer"]] == ["record 41", "record 42"]
    read = assert_self_contained(page(found))
    for words in ("43records read", "41conversations kept", "noneleakage into validation", "no_answer", "get_weather",
                  "in.jsonl", "answer_from_result", "only a question", "\\u202e"):  # fmt: skip
        assert words in read.text, words
    assert ("class", "text untrained") in read.attributes or ("class", "call-syntax untrained") in read.attributes


def test_leakage_is_an_alarm(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", map(tiny.conversation, range(20)))
    build([source], tokenizer, tmp_path / "built", val_ratio=0.25)
    found = survey(open_source(tmp_path / "built", None))
    assert ("class", "tile alarm") not in Reader(page(found)).attributes
    found.metadata["leakage"]["near_duplicate_pairs_across"] = 12
    read = Reader(page(found))
    assert ("class", "tile alarm") in read.attributes and "12leakage into validation" in read.text


def test_a_cleaned_file_shows_its_report_and_quarantine(tmp_path: Path, tokenizer: Path) -> None:
    good = "USER: Hi\n\n\nASSISTANT: Hello. <|endoftext|>\n\n\n"
    raw = [{"system": "", "chat": good}, {"system": "", "chat": f"USER: {HOSTILE}"}, {"system": 3, "chat": HOSTILE}]
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    result = clean_files([tmp_path / "raw.json"], tmp_path / "clean.jsonl")
    found = survey(open_source(tmp_path / "clean.jsonl", tokenizer))
    assert (found.read, found.kept, found.dropped) == (3, 1, 2) == (3, result.tally.kept, result.tally.dropped)
    assert {c.name: (c.count, c.meaning) for c in found.counts["drops of the cleaning"]} == {
        reason.value: (count, reason.sentence) for reason, count in result.tally.drops.items()
    }
    assert set(found.defects) == {reason.value for reason in result.tally.drops}
    read = assert_self_contained(page(found))
    assert "<script>alert(1)</script>" in read.text and "Hello." in read.text


def test_a_file_without_reports_and_with_what_cannot_be_rendered(tmp_path: Path, tokenizer: Path) -> None:
    broken = Conversation((Message("user", "x"), Message("assistant", '{"tool_uses": []}')))
    source = tiny.write_conversations(tmp_path / "in.jsonl", [tiny.conversation(0), broken])
    found = survey(open_source(source, tokenizer))
    assert [c.count for c in found.counts["cannot be rendered"]] == [1] and found.kept == 1
    assert_self_contained(page(found))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("quarantine.jsonl", '{"row": 1, "reason": "x"}\n{"row"\n', "line 2: not an entry of a quarantine"),
        ("quarantine.jsonl", "[]\n", "line 1: not an entry of a quarantine (it is no object)"),
        ("quarantine.jsonl", "[" * 99_999, "line 1: not an entry of a quarantine"),
        ("report.json", "{", "is not JSON"),
        ("report.json", "[]", "is not a report of 'callama clean'"),
        ("report.json", '{"read": 3}', "is not a report of 'callama clean'"),
        ("report.json", '{"read": 3, "dropped": 1, "kept_after_repair": 0, "drops": {"x": 1}}', "is not a report"),
    ],
)
def test_damage_beside_a_cleaned_file_is_named(
    tmp_path: Path, tokenizer: Path, name: str, text: str, words: str
) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", [tiny.conversation(0)])
    (tmp_path / f"in.jsonl.{name}").write_text(text)
    with pytest.raises(CallamaError, match=re.escape(f"in.jsonl.{name}")) as caught:
        survey(open_source(source, tokenizer))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], "has no"),
        ({"leakage": None}, "has no 'leakage'"),
        ({"dropped": [1]}, "'dropped' must count by reason"),
        ({"dropped": {"x": "y"}}, "'dropped' must count by reason"),
    ],
)
def test_metadata_of_something_else_is_named(tmp_path: Path, tokenizer: Path, change: Any, words: str) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", [tiny.conversation(0)])
    metadata = build([source], tokenizer, tmp_path / "built", val_ratio=0)
    damaged = {**metadata, **change} if isinstance(change, dict) else change
    if isinstance(damaged, dict):
        damaged = {key: value for key, value in damaged.items() if value is not None}
    (tmp_path / "built" / "metadata.json").write_text(json.dumps(damaged))
    with pytest.raises(CallamaError, match=r"metadata\.json") as caught:
        survey(open_source(tmp_path / "built", None))
    assert words in str(caught.value)


def test_several_sources_are_told_apart(tmp_path: Path, tokenizer: Path) -> None:
    sources = [
        tiny.write_conversations(tmp_path / name, map(tiny.conversation, numbers))
        for name, numbers in (("a.jsonl", range(30)), ("b.jsonl", range(30, 40)))
    ]
    build(sources, tokenizer, tmp_path / "built", mix=[1, 1])
    found = survey(open_source(tmp_path / "built", None))
    assert all(defect.where.startswith("a.jsonl, record ") for defect in found.defects["over_mix"])
    read = assert_self_contained(page(found))
    assert "50.0 %" in read.text and "over_mix 20" in read.text


def test_charts_are_in_proportion() -> None:
    widths = re.findall(r"width:([\d.]+)%", charts.bars([Count("a", 40), Count("b", 10)], 200))
    assert widths == ["100.00", "25.00"]
    assert charts.share(40, 200) == "20.0 %" and charts.share(1, 10**6) == "< 0.1 %" and charts.share(0, 0) == ""
    thin = re.findall(r"width:([\d.]+)%", charts.side_bars({"train": {"x": 30, "y": 10}, "validation": {"x": 1}}))
    assert thin == ["75.00", "100.00", "25.00", "0.00"]
    assert re.findall(r"flex-grow:(\d+)", charts.stack([("a", "a", 3), ("b", "b", 0), ("c", "c", 5)])) == ["3", "5"]
    heights = re.findall(r'height="([\d.]+)"', charts.histogram([1] * 10 + [50] * 5 + [9999], "train", 100))
    assert heights == ["130.0", "65.0", "13.0"]
    assert charts.round_end([7, 8, 9]) == 12 and charts.round_end([2000] * 9) == 2400 and charts.round_end([]) >= 1
