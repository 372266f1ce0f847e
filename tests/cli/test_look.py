"""``callama check`` and ``callama inspect`` as they are typed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from callama.contract.messages import Conversation, Message
from callama.data.dataset import Dataset
from tests import tiny
from tests.cli.conftest import RunHere


@pytest.fixture
def broken(world: Path, tmp_path: Path) -> Path:
    """A built data set whose second training row lies about its answers."""
    shutil.copytree(world / "built", tmp_path / "broken")
    file = tmp_path / "broken" / "train.arrow"
    data = Dataset(file)
    rows = [data[i] for i in range(len(data))]
    rows[1] = replace(rows[1], answers=("calls",))
    tiny.write_examples(tmp_path / "new.arrow", rows)
    (tmp_path / "new.arrow").replace(file)
    return tmp_path / "broken"


def test_check_passes_sound_data_and_fails_on_the_first_that_is_not(here: RunHere, world: Path, broken: Path) -> None:
    callama = partial(here, "callama")
    sound = callama("check", world / "conversations.jsonl", world / "built", "--tokenizer", world / "model")
    assert sound.status == 0 and sound.out.count("✓") == 2 and sound.out.count("all read back") == 2
    found = callama("check", broken, "--tokenizer", world / "model")
    assert found.status == 1
    assert "✗" in found.out and "1 do not read back" in found.out and "first: train 1: the answers are" in found.out
    assert '{"tool_uses": [{"recipient_name": "functions.' in found.out
    as_json = callama("check", world / "built", broken, "--tokenizer", world / "model", "--json")
    assert as_json.status == 1
    assert [(r["offenders"], r["first"] and r["first"]["record"]) for r in as_json.last_json.values()] == [
        (0, None), (1, 1)
    ]  # fmt: skip


def test_inspect_shows_conversations_and_rows(here: RunHere, world: Path, broken: Path) -> None:
    said = here("callama", "inspect", world / "conversations.jsonl", "--tokenizer", world / "model", "--limit", "2")
    assert said.status == 0 and said.out.count("✓ reads back") == 2
    assert "\nrecord 0 " in said.out and "What is the weather in Oslo, number 0?" in said.out
    later = here("callama", "inspect", world / "conversations.jsonl", "--tokenizer", world / "model", "--record", "39")
    assert later.out.count("✓ reads back") == 1 and "number 39?" in later.out
    rows = here("callama", "inspect", broken, "--tokenizer", world / "model", "--limit", "2")
    assert rows.out.count("✓ reads back") == 3 and rows.out.count("✗ the answers are") == 1
    assert "train 0 (record " in rows.out and "validation 0 (record " in rows.out and "supervised" in rows.out


def test_inspect_colours_kinds_where_there_is_a_terminal(
    here: RunHere, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = here("callama", "inspect", world / "conversations.jsonl", "--tokenizer", world / "model", "--limit", "1")
    for style, words in (("1;35", "get_weather"), ("36", "city"), ("33", "Oslo"), ("1;31", "<|im_end|>")):
        assert f"\x1b[{style}m{words}" in shown.out, words


def test_what_stands_in_the_data_does_not_drive_the_terminal(here: RunHere, world: Path, tmp_path: Path) -> None:
    hostile = Conversation((Message("user", "\x1b]0;owned\x07\x1b[2J"), Message("assistant", "[bold]No.[/]")))
    file = tiny.write_conversations(tmp_path / "in.jsonl", [hostile])
    shown = here("callama", "inspect", file, "--tokenizer", world / "model")
    assert shown.status == 0 and "\x1b" not in shown.out and "\x07" not in shown.out
    assert "\\u001b]0;owned\\u0007" in shown.out and "[bold]No.[/]" in shown.out


def test_inspect_writes_a_page(here: RunHere, world: Path, tmp_path: Path) -> None:
    done = here("callama", "inspect", world / "built", "--html", tmp_path / "page.html")
    assert (done.status, done.out) == (0, f"page: {tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").read_text().lstrip().startswith("<!doctype html>")


def test_a_page_never_takes_the_place_of_data(here: RunHere, world: Path, broken: Path) -> None:
    before = (broken / "train.arrow").read_bytes()
    for html in (broken / "train.arrow", broken / "page.html", world / "conversations.jsonl"):
        done = here("callama", "inspect", broken, "--tokenizer", world / "model", "--html", html)
        assert done.status == 2 and len(done.err.splitlines()) == 1
    assert (broken / "train.arrow").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "none.jsonl"], "none.jsonl does not exist"),
        (["inspect", "none", "--tokenizer", "MODEL"], "none does not exist"),
        (["inspect", "CONVERSATIONS", "--tokenizer", "MODEL", "--record", "99"], "has no record 99"),
        (["inspect", "CONVERSATIONS", "--tokenizer", "MODEL", "--limit", "0"], "--limit at least 1"),
        (["check", "none.arrow"], "none.arrow does not exist"),
        (["check", "MODEL"], "holds no train.arrow"),
    ],
)
def test_a_mistake_is_one_line(here: RunHere, world: Path, arguments: list[str], words: str) -> None:
    places = {"MODEL": str(world / "model"), "CONVERSATIONS": str(world / "conversations.jsonl")}
    done = here("callama", *(places.get(a, a) for a in arguments))
    assert (done.status, done.out) == (2, "") and words in done.err and done.err.startswith("error: ")
