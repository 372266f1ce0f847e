"""The defect classes of glaive that a whole row decides, one case each; the others have theirs in
``test_glaive_calls`` (calls) and ``test_glaive_rows`` (fragments of one turn)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callama.data.clean import clean_files
from callama.data.formats.registry import clean_record
from callama.data.quarantine import DropError, Reason
from callama.data.reasons import Drop, Repair
from callama.data.records import Record

DEFECTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "glaive" / "defects.jsonl"
END = " <|endoftext|>"
HEAD = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"


def function(name: str, *properties: str) -> str:
    return json.dumps({
        "name": name,
        "description": "It does",
        "parameters": {"type": "object", "properties": {p: {"type": "string"} for p in properties}},
    })  # fmt: skip


def call(name: str, arguments: str) -> str:
    return f"""<functioncall> {{"name": "{name}", "arguments": '{arguments}'}}{END}"""


CHORES = call("create_to_do_list", '{"title": "Weekend Chores"}')
JOKE = '{"name": "get_random_joke", "description": "Get a random joke", "parameters": {}}'
# Class: system, chat, the repairs of a kept row or the reason of a dropped one.
ROWS: dict[str, tuple[str, str, list[Repair] | Drop]] = {
    "undeclared_function": (
        HEAD + function("create_to-do_list", "title"),
        f"USER: Make a list\n\n\nASSISTANT: {CHORES}",
        [Repair.FUNCTION_RENAMED],
    ),
    "function_declared_twice": (
        HEAD + function("convert_currency", "amount") + "\n\n" + function("convert_currency", "from", "to"),
        f"USER: Hi\n\n\nASSISTANT: Hello!{END}",
        Drop.FUNCTION_DECLARED_TWICE,
    ),
    "empty_parameters": (
        HEAD + JOKE,
        f"USER: A joke\n\n\nASSISTANT: {call('get_random_joke', '{}')}",
        [],
    ),
    "two_newline_separator": ("SYSTEM: You help.\n\n", f"USER: Hi\n\nASSISTANT: Hello!{END}\n\n", []),
    "two_assistant_turns": (
        HEAD + JOKE,
        f"USER: A joke\n\n\nASSISTANT: Sure, one moment.{END}\n\n\nASSISTANT: {call('get_random_joke', '{}')}",
        [Repair.ASSISTANT_TURNS],
    ),
    "two_user_turns": (
        HEAD + JOKE,
        f"USER: I start now.\n\n[After a while]\n\n\nUSER: I am done\n\n\nASSISTANT: Good!{END}",
        [Repair.USER_TURNS],
    ),
    "ends_on_user": (HEAD + JOKE, f"USER: Hi\n\n\nASSISTANT: Hello!{END}\n\n\nUSER: Bye", [Repair.USER_END]),
    "unicode_line_separators": (HEAD + JOKE, f"USER: a\x85b\u2028c\n\n\nASSISTANT: d\u2029e{END}", []),
}
IN_FILES = {"exact_and_near_duplicates"}


@pytest.mark.parametrize("name", ROWS)
def test_trap_11_and_12_defect_of_a_row(name: str) -> None:
    system, chat, outcome = ROWS[name]
    record = Record(0, "line 1", "", {"system": system, "chat": chat})
    if isinstance(outcome, Drop):
        with pytest.raises(DropError) as caught:
            clean_record(record)
        assert caught.value.reason is outcome
        return
    conversation, repairs = clean_record(record)
    assert list(repairs) == outcome
    assert [m.role for m in conversation.messages] == ["system", "user", "assistant"]


def test_trap_12_unicode_line_separators_survive_the_file(tmp_path: Path) -> None:
    system, chat, _ = ROWS["unicode_line_separators"]
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"system": system, "chat": chat}, ensure_ascii=False), encoding="utf-8")
    (line,) = clean_files([source], tmp_path / "out.jsonl").out.read_text(encoding="utf-8").splitlines()
    assert [m["content"] for m in json.loads(line)["messages"][1:]] == ["a\x85b\u2028c", "d\u2029e"]


def test_exact_and_near_duplicates(tmp_path: Path) -> None:
    asked = "USER: I need a new password. Can you generate one for me?\n\n\nASSISTANT: "
    told = "Of course. How long should it be, and shall it hold symbols, digits and capital letters, or words only?"
    rows: list[dict[str, Any]] = [
        {"system": HEAD + JOKE, "chat": f"{asked}{told}{END}"},
        {"system": HEAD + JOKE, "chat": f"{asked}{told}{END}\n\n\n"},
        {"system": HEAD + JOKE, "chat": f"{asked}{told.replace('shall', 'should')}{END}"},
        {"system": HEAD + JOKE, "chat": f"USER: A joke?\n\n\nASSISTANT: {call('get_random_joke', '{}')}"},
    ]
    source = tmp_path / "in.json"
    source.write_text(json.dumps(rows))
    drops: dict[Reason, int] = dict(clean_files([source], tmp_path / "out.jsonl").tally.drops)
    assert drops == {Drop.EXACT_DUPLICATE: 1, Drop.NEAR_DUPLICATE: 1}


@pytest.mark.skipif(not DEFECTS.is_file(), reason=f"{DEFECTS} is absent")
def test_every_class_has_a_case() -> None:
    defects = [json.loads(line) for line in DEFECTS.open(encoding="utf-8")]
    assert len(defects) == 28
    of_rows = {defect["cls"] for defect in defects if defect["kind"] in ("row", "system")}
    assert of_rows == ROWS.keys() | IN_FILES
