"""One glaive call: every defect class of the real file, and the forms that look alike."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from callama.data.glaive.calls import parse_call
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

DEFECTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "glaive" / "defects.jsonl"


def _call_defects() -> list[Any]:
    if not DEFECTS.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{DEFECTS} is absent"))]
    rows = [json.loads(line) for line in DEFECTS.open(encoding="utf-8")]
    return [pytest.param(row, id=row["cls"]) for row in rows if row["kind"] == "call"]


def refusal(text: str) -> Drop:
    with pytest.raises(DropError) as caught:
        parse_call(text)
    assert isinstance(caught.value.reason, Drop)
    return caught.value.reason


@pytest.mark.parametrize("defect", _call_defects())
def test_trap_10_every_form_of_a_call_that_glaive_has(defect: dict[str, Any]) -> None:
    if defect["expect"] is None:
        refusal(defect["text"])
    else:
        assert parse_call(defect["text"]).arguments == defect["expect"]


@pytest.mark.parametrize(
    ("text", "arguments", "repairs"),
    [
        ("""{"name": "f", "arguments": '{"a": 1}'}""", {"a": 1}, []),
        ("""{"name": "f", "arguments": '{}'}""", {}, []),
        ("""{"name":"f","arguments":'{\n  "a": 1\n}'\n}""", {"a": 1}, []),
        ("""{"name": "f", "arguments": {"a": 1}}""", {"a": 1}, [Repair.CALL_IN_JSON]),
        ("""{"name": "f", "arguments": "{\\"a\\": 1}"}""", {"a": 1}, [Repair.CALL_IN_JSON]),
        ("""{"name": "f", "arguments": '{"a": "it's '}' ok"}'}""", {"a": "it's '}' ok"}, [Repair.APOSTROPHE]),
        ("""{"name": "f", "arguments": '{"a": "it\\'s"}'}""", {"a": "it's"}, [Repair.BACKSLASH_APOSTROPHE]),
        ("""{"name": "f", "arguments": '{"a": "C:\\\\'s"}'}""", {"a": "C:\\'s"}, [Repair.APOSTROPHE]),
        ("""{"name": "f", "arguments": '{"a": "say \\"it\\'s\\""}'}""", {"a": 'say "it\'s"'}, None),
        ("""{"name": "f", "arguments": '{"a": 1}'}}""", {"a": 1}, [Repair.EXTRA_BRACE]),
        ("""{"name": "f", "arguments": {"a": 1}}}""", {"a": 1}, [Repair.CALL_IN_JSON, Repair.EXTRA_BRACE]),
        ("""{"name": "f", "arguments": '{"a": 1}'""", {"a": 1}, [Repair.MISSING_BRACE]),
        ("""{"name": "f", "arguments": '{"a": "x\ny\tz"}'}""", {"a": "x\ny\tz"}, [Repair.RAW_CONTROL]),
        ("""{"name": "f", "arguments": '{"a": "\x85\u2028é"}'}""", {"a": "\x85\u2028é"}, []),
    ],
)
def test_trap_10_a_call_is_read_as_meant(text: str, arguments: dict[str, Any], repairs: list[Repair] | None) -> None:
    call = parse_call(text)
    assert (call.name, call.arguments) == ("f", arguments)
    if repairs is not None:
        assert list(call.repairs) == repairs


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Drop.CALL_CUT_OFF),
        ("f(1)", Drop.CALL_NOT_JSON),
        ("[1, 2]", Drop.CALL_NOT_JSON),
        ('{"arguments": {}}', Drop.CALL_NOT_JSON),
        ('{"name": 7, "arguments": {}}', Drop.CALL_NOT_JSON),
        ('{"name": "f", "arguments": {}, "id": 1}', Drop.CALL_NOT_JSON),
        ('{"name": "f", "arguments": {"a": 1}', Drop.CALL_CUT_OFF),
        ('{"name": "f", "arguments": {"a": "b', Drop.CALL_CUT_OFF),
        ("""{"name": "f", "arguments": '""", Drop.CALL_CUT_OFF),
        ("""{"name": "f", "arguments": '{"a": "it's}""", Drop.CALL_CUT_OFF),
        ("""{"name": "f", "arguments": '{"a": 1}'} and more""", Drop.TEXT_AFTER_CALL),
        ("""{"name": "f", "arguments": '{"a": 1}'} {"name": "g", "arguments": '{}'}""", Drop.TEXT_AFTER_CALL),
        ("""{"name": "f", "arguments": {"a": 1}} and more""", Drop.TEXT_AFTER_CALL),
        ("""{"name": "f", "arguments": ''}""", Drop.ARGUMENTS_NOT_JSON),
        ("""{"name": "f", "arguments": '{"a": NaN}'}""", Drop.ARGUMENTS_NOT_JSON),
        ("""{"name": "f", "arguments": '{"a": Infinity}'}""", Drop.ARGUMENTS_NOT_JSON),
        ("""{"name": "f", "arguments": '{"a": [-Infinity]}'}""", Drop.ARGUMENTS_NOT_JSON),
        ("""{"name": "f", "arguments": {"a": Infinity}}""", Drop.CALL_NOT_JSON),
        ("""{"name": "f", "arguments": '{"a": 1e999}'}""", Drop.ARGUMENTS_NOT_JSON),
        ("""{"name": "f", "arguments": '{"a": "\\ud800"}'}""", Drop.ARGUMENTS_NOT_JSON),
        ("""{"name": "f", "arguments": '{"a": 1, "a": 2}'}""", Drop.ARGUMENTS_NOT_JSON),
        ("""{"name": "f", "arguments": '{"a": [User provided data]}'}""", Drop.ARGUMENTS_NOT_JSON),
        ("""{"name": "f", "arguments": '[1]'}""", Drop.ARGUMENTS_NOT_OBJECT),
        ("""{"name": "f", "arguments": [1]}""", Drop.ARGUMENTS_NOT_OBJECT),
        ("""{"name": "f", "arguments": 'null'}""", Drop.ARGUMENTS_NULL),
        ("""{"name": "f", "arguments": null}""", Drop.ARGUMENTS_NULL),
        ("""{"name": "f"}""", Drop.ARGUMENTS_MISSING),
        ("""{"name": "f", "parameters": {}}""", Drop.ARGUMENTS_MISNAMED),
    ],
)
def test_trap_10_a_call_that_cannot_be_read_in_one_way_is_refused(text: str, reason: Drop) -> None:
    assert refusal(text) is reason


@pytest.mark.parametrize(
    "filling",
    ["'}" * 200_000, "\\'" * 200_000, '"' * 400_000, "}" * 400_000, " " * 400_000, "\\" * 400_000, "[" * 400_000],
    ids=lambda text: repr(text[:2]),
)
def test_reading_a_call_takes_linear_time(filling: str) -> None:
    start = time.process_time()
    for text in (f"""{{"name": "f", "arguments": '{{"a": "{filling}""", f'{{"name": "f", "arguments": {filling}'):
        for end in ("", "\"}'}", "x"):
            with contextlib.suppress(DropError):
                parse_call(text + end)
    assert time.process_time() - start < 2
