"""Rows of glaive: how turns, calls, results and tools become one conversation, or why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callama.contract.messages import Conversation, dump_line
from callama.data.formats.registry import clean_record
from callama.data.quarantine import DropError, Reason
from callama.data.reasons import Drop, Repair
from callama.data.records import Record

DEFECTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "glaive" / "defects.jsonl"
END = " <|endoftext|>"
PLAIN = "SYSTEM: You are a helpful assistant, with no access to external functions.\n\n"
HEAD = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"


def function(name: str, /, *required: str, **properties: Any) -> str:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return json.dumps({"name": name, "description": f"Does {name}", "parameters": schema}, indent=4)


STRING = {"type": "string"}
SYSTEM = HEAD + function("get_song", "title", title=STRING, count={"type": "integer"}) + "\n\n" + function("list_all")
GET = """<functioncall> {"name": "get_song", "arguments": '{"title": "Imagine"}'}""" + END
LIST = """<functioncall> {"name": "list_all", "arguments": '{}'}""" + END


def chat(*turns: str, gap: str = "\n\n\n") -> str:
    names = {"U": "USER", "A": "ASSISTANT", "R": "FUNCTION RESPONSE"}
    return "".join(f"{names[turn[0]]}:{turn[1:]}{gap}" for turn in turns)


def clean(text: str, system: str | None = SYSTEM) -> tuple[list[tuple[Any, ...]], list[Repair]]:
    record = Record(5, "line 6", "", {"system": system, "chat": text})
    conversation, repairs = clean_record(record, "glaive")
    assert conversation.labels == {"source": "glaive", "row": 5, "repairs": [str(r) for r in repairs]}
    assert Conversation.from_dict(json.loads(dump_line(conversation))) == conversation
    shown = [
        (m.role, m.content, *((c.name, c.arguments) for c in m.tool_calls))
        for m in conversation.messages
        if m.role != "system"
    ]
    return shown, list(repairs)  # type: ignore[arg-type]


def refusal(text: str, system: Any = SYSTEM) -> Drop:
    with pytest.raises(DropError) as caught:
        clean_record(Record(0, "line 1", "", {"system": system, "chat": text}), "glaive")
    assert isinstance(caught.value.reason, Drop)
    return caught.value.reason


ASK = "U Play Imagine"
ASKED = ("user", "Play Imagine")
CALL = ("get_song", {"title": "Imagine"})


def test_a_whole_row() -> None:
    text = chat(ASK, f"A {GET}", 'R {"id":7}', f"A Here it is.{END}", "U Thanks", f"A Any time!{END}")
    messages, repairs = clean(text)
    assert messages == [
        ASKED,
        ("assistant", None, CALL),
        ("tool", '{"id": 7}'),
        ("assistant", "Here it is."),
        ("user", "Thanks"),
        ("assistant", "Any time!"),
    ]
    assert repairs == []


def test_system_prose_and_tools_are_separated() -> None:
    conversation, _ = clean_record(Record(0, "", "", {"system": SYSTEM, "chat": chat(ASK, "A Yes.")}), "glaive")
    assert conversation.messages[0].content == HEAD.removeprefix("SYSTEM: ").strip()
    assert [t.name for t in conversation.tools] == ["get_song", "list_all"]
    assert conversation.tools[0].parameters["required"] == ["title"]


@pytest.mark.parametrize("system", [None, "", "SYSTEM:  \n"])
def test_no_system_text_gives_no_system_message(system: str | None) -> None:
    conversation, _ = clean_record(Record(0, "", "", {"system": system, "chat": chat(ASK, "A Yes.")}), "glaive")
    assert [m.role for m in conversation.messages] == ["user", "assistant"]


def test_trap_12_two_newline_separator() -> None:
    text = chat("U What is X?", f"A It is:\n\n1. USER: a word\n\nNot more.{END}", gap="\n\n")
    assert clean(text, PLAIN)[0] == [
        ("user", "What is X?"),
        ("assistant", "It is:\n\n1. USER: a word\n\nNot more."),
    ]


def test_content_is_kept_to_the_byte_but_for_white_space_at_its_ends() -> None:
    odd = "It's \x85 a\u2028b\u00a0 — “q” 'x'\n\nUSERS: and\nUSER: ASSISTANT: x \u00a0"
    text = chat(f"U  {odd}\n", f"A \n {odd}{END}")
    assert clean(text)[0] == [("user", odd), ("assistant", odd)]


def test_trap_11_function_with_a_blank_line_and_braces_in_its_description() -> None:
    system = HEAD + function("list_all").replace("Does list_all", "a {\\n\\n} b") + "\n" + function("get_song")
    conversation, _ = clean_record(Record(0, "", "", {"system": system, "chat": chat(ASK, "A Yes.")}), "glaive")
    assert conversation.tools[0].description == "a {\n\n} b"
    assert len(conversation.tools) == 2


def test_empty_parameters() -> None:
    system = HEAD + '{"name": "get_random_joke", "description": "Get a random joke", "parameters": {}}'
    call = """<functioncall> {"name": "get_random_joke", "arguments": '{}'}"""
    assert clean(chat("U Joke", f"A {call}"), system)[0][1] == ("assistant", None, ("get_random_joke", {}))


def test_trap_12_function_declared_twice() -> None:
    same = HEAD + function("f") + "\n" + function("f")
    assert clean(chat(ASK, "A Yes."), same)[1] == [Repair.REPEATED_FUNCTION]
    assert refusal(chat(ASK, "A Yes."), HEAD + function("f") + function("f", a=STRING)) is Drop.FUNCTION_DECLARED_TWICE


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ('{"name": "f"', Drop.FUNCTIONS_NOT_JSON),
        ('{"name": "f"} and text', Drop.FUNCTIONS_NOT_JSON),
        ("{" * 2000, Drop.FUNCTIONS_NOT_JSON),
        ('{"a":' * 3000, Drop.FUNCTIONS_NOT_JSON),
        ('{"name": "a b"}', Drop.FUNCTION_INVALID),
        ('{"description": "no name"}', Drop.FUNCTION_INVALID),
        ('{"name": "f", "parameters": [1]}', Drop.FUNCTION_INVALID),
    ],
)
def test_functions_that_cannot_be_read(functions: str, reason: Drop) -> None:
    assert refusal(chat(ASK, "A Yes."), HEAD + functions) is reason


def test_text_before_call() -> None:
    messages, repairs = clean(chat(ASK, f"A Of course.\n{GET}"))
    assert messages == [ASKED, ("assistant", "Of course.", CALL)]
    assert repairs == [Repair.CALL_BEHIND_TEXT]


def test_trap_11_two_assistant_turns_announcement_then_call() -> None:
    messages, repairs = clean(chat(ASK, f"A Sure, let me play that.{END}", f"A {GET}", "R ok", f"A Done.{END}"))
    assert messages == [ASKED, ("assistant", "Sure, let me play that.", CALL), ("tool", "ok"), ("assistant", "Done.")]
    assert repairs == [Repair.ASSISTANT_TURNS]


def test_trap_11_two_assistant_turns_of_text() -> None:
    messages, repairs = clean(chat(ASK, f"A One.{END}", f"A Two.{END}"))
    assert messages == [ASKED, ("assistant", "One.\n\nTwo.")]
    assert repairs == [Repair.ASSISTANT_TURNS]


def test_announced_call_repeated_is_kept_once() -> None:
    messages, repairs = clean(chat(ASK, f"A Sure. {GET}", f"A {GET}", "R ok", f"A Done.{END}"))
    assert messages[1] == ("assistant", "Sure.", CALL)
    assert Repair.REPEATED_CALL in repairs


def test_two_calls_with_two_results_are_parallel() -> None:
    messages, _ = clean(chat(ASK, f"A {GET}", f"A {LIST}", "R one", "R two", f"A Done.{END}"))
    assert messages[1:4] == [("assistant", None, CALL, ("list_all", {})), ("tool", "one"), ("tool", "two")]


def test_equal_calls_with_their_own_results_are_both_kept() -> None:
    messages, _ = clean(chat(ASK, f"A {GET}", f"A {GET}", "R one", "R two", f"A Done.{END}"))
    assert messages[1] == ("assistant", None, CALL, CALL)


def test_two_user_turns() -> None:
    messages, repairs = clean(chat("U I start now.\n\n[After a while]", "U I am done", f"A Good.{END}"))
    assert messages[0] == ("user", "I start now.\n\n[After a while]\n\nI am done")
    assert repairs == [Repair.USER_TURNS]


def test_trap_12_ends_on_user() -> None:
    messages, repairs = clean(chat(ASK, f"A Yes.{END}", "U Bye", "U Hello?"))
    assert messages == [ASKED, ("assistant", "Yes.")]
    assert repairs == [Repair.USER_END]
    assert refusal(chat(ASK)) is Drop.NO_ANSWER


def test_ends_with_a_call_or_its_result() -> None:
    assert clean(chat(ASK, f"A {GET}")) == ([ASKED, ("assistant", None, CALL)], [])
    assert clean(chat(ASK, f"A {GET}", "R ok")) == ([ASKED, ("assistant", None, CALL)], [Repair.RESULT_END])


@pytest.mark.parametrize("spelling", ["create_to_do_list", "createToDoList", "create-to-do_list"])
def test_undeclared_function_that_differs_in_punctuation(spelling: str) -> None:
    system = HEAD + function("create_to-do_list", title=STRING)
    call = f"""<functioncall> {{"name": "{spelling}", "arguments": '{{"title": "x"}}'}}"""
    messages, repairs = clean(chat("U Do", f"A {call}"), system)
    assert messages[1] == ("assistant", None, ("create_to-do_list", {"title": "x"}))
    assert repairs == [Repair.FUNCTION_RENAMED]
    assert refusal(chat("U Do", f"A {call}"), system + function("create_todolist")) is Drop.UNDECLARED_FUNCTION
    assert refusal(chat("U Do", f"A {call}"), PLAIN) is Drop.UNDECLARED_FUNCTION
    assert refusal(chat("U Do", f"A {call}"), None) is Drop.UNDECLARED_FUNCTION


def test_trap_13_an_apostrophe_is_no_end_of_the_arguments_and_stays() -> None:
    call = """<functioncall> {"name": "get_song", "arguments": '{"title": "Doctor's Orders"}'}""" + END
    messages, repairs = clean(chat("U Play Doctor's Orders", f"A {call}"))
    assert "Doctor's Orders" in repr(messages[1]) and repairs == [Repair.APOSTROPHE]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{}", Drop.ARGUMENTS_INVALID),
        ('{"title": [7]}', Drop.ARGUMENTS_INVALID),
        ('{"title": 7.5}', Drop.ARGUMENTS_INVALID),
        ('{"title": true}', Drop.ARGUMENTS_INVALID),
        ('{"title": "x", "count": "seven"}', Drop.ARGUMENTS_INVALID),
        ('{"title": "x", "count": "7.5"}', Drop.ARGUMENTS_INVALID),
        ('{"title": "x", "count": "07"}', Drop.ARGUMENTS_INVALID),
        ('{"title": "x", "volume": 7}', Drop.UNDECLARED_ARGUMENT),
    ],
)
def test_trap_13_arguments_that_do_not_fit_the_schema(arguments: str, reason: Drop) -> None:
    call = f"""<functioncall> {{"name": "get_song", "arguments": '{arguments}'}}"""
    assert refusal(chat(ASK, f"A {call}")) is reason


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [('{"title": 7}', {"title": "7"}), ('{"title": "x", "count": "7"}', {"title": "x", "count": 7})],
)
def test_a_number_in_the_other_spelling_gets_the_declared_type(arguments: str, meant: dict[str, Any]) -> None:
    call = f"""<functioncall> {{"name": "get_song", "arguments": '{arguments}'}}"""
    messages, repairs = clean(chat(ASK, f"A {call}"))
    assert messages[1] == ("assistant", None, ("get_song", meant))
    assert repairs == [Repair.ARGUMENT_TYPE]


def test_an_argument_invented_inside_an_object() -> None:
    inner = {"type": "object", "properties": {"a": STRING}}
    system = HEAD + function("f", box=inner, free={"type": "object"}, rows={"type": "array", "items": inner})
    call = """<functioncall> {"name": "f", "arguments": '%s'}"""
    assert clean(chat(ASK, "A " + call % '{"box": {"a": "x"}, "free": {"b": 1}, "rows": [{"a": "y"}]}'), system)
    for arguments in ('{"box": {"b": "x"}}', '{"rows": [{"a": "y"}, {"b": "z"}]}'):
        assert refusal(chat(ASK, "A " + call % arguments), system) is Drop.UNDECLARED_ARGUMENT


@pytest.mark.parametrize(
    "schema", ['{"$ref": "http://127.0.0.1:1/x"}', '{"pattern": "("}', '{"$ref": "file:///etc/x"}']
)
def test_a_schema_that_does_not_stand_for_itself(schema: str) -> None:
    system = HEAD + '{"name": "f", "parameters": {"properties": {"a": ' + schema + "}}}"
    call = """<functioncall> {"name": "f", "arguments": '{"a": "b"}'}"""
    assert refusal(chat(ASK, f"A {call}"), system) in (Drop.ARGUMENTS_INVALID, Drop.FUNCTION_INVALID)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (["A Hello"], Drop.STARTS_WITHOUT_USER),
        ([ASK, "A " + END, "U x", "A y"], Drop.EMPTY_TURN),
        ([ASK, f"A Yes.{END} And no."], Drop.TEXT_AFTER_ENDOFTEXT),
        ([ASK, f"A {GET}", "U And?", "A Yes."], Drop.CALL_WITHOUT_RESULT),
        ([ASK, f"A {GET}", "A Played."], Drop.CALL_WITHOUT_RESULT),
        ([ASK, f"A {GET}", "R a", "R b", "A Yes."], Drop.RESULTS_DO_NOT_MATCH),
        ([ASK, f"A {GET}", f"A {LIST}", "R a", "A Yes."], Drop.RESULTS_DO_NOT_MATCH),
        ([ASK, f"A {GET}", "A Wait.", "R a", "A Yes."], Drop.TEXT_AFTER_CALL),
        ([ASK, "A Wait.", "R a", "A Yes."], Drop.ORPHAN_RESULT),
        ([ASK, "R a", "A Yes."], Drop.ORPHAN_RESULT),
        ([ASK, f"A {GET}", 'R {"lyrics": "', "A Yes."], Drop.BROKEN_RESULT),
        ([ASK, "A <function_call> f()"], Drop.OTHER_CALL_SYNTAX),
        ([ASK, 'A {"name": "get_song", "arguments": {"title": "x"}}'], Drop.OTHER_CALL_SYNTAX),
        ([ASK, 'A {"tool_uses": []}'], Drop.OTHER_CALL_SYNTAX),
    ],
)
def test_turns_that_make_no_conversation(turns: list[str], reason: Drop) -> None:
    assert refusal(chat(*turns)) is reason


@pytest.mark.parametrize("text", ["", "  \n", "Hello", "Hello\n\n\nUSER: x\n\n\nASSISTANT: y"])
def test_chats_without_turns(text: str) -> None:
    assert refusal(text) in (Drop.NO_TURNS, Drop.NO_CHAT)


def test_plain_results_are_kept_and_raw_line_breaks_in_json_are_escaped() -> None:
    messages, repairs = clean(chat(ASK, f"A {GET}", "R Error: 'x' {", f"A {GET}", 'R {"a": "b\nc"}', f"A Done.{END}"))
    assert [m[1] for m in messages if m[0] == "tool"] == ["Error: 'x' {", '{"a": "b\\nc"}']
    assert repairs == [Repair.RAW_CONTROL]


@pytest.mark.parametrize("end", ["", END + END, f"{END}\n{END}"])
def test_trap_12_endoftext_missing_or_doubled(end: str) -> None:
    messages, repairs = clean(chat(ASK + END, f"A Yes.{end}"))
    assert messages == [ASKED, ("assistant", "Yes.")]
    assert repairs == [Repair.ENDOFTEXT] * (2 if end else 1)


def test_a_turn_opens_behind_endoftext_and_one_newline() -> None:
    assert clean(f"USER: a\n\n\nASSISTANT: b{END}\nUSER: c\n\n\nASSISTANT: d{END}\n")[0][2] == ("user", "c")


def test_trap_12_ai_colon_inside_a_user_turn() -> None:
    messages, repairs = clean(chat('U The book is "\nASSISTANT: A Modern Approach", two copies' + END, f"A Yes.{END}"))
    assert messages[0] == ("user", 'The book is "AI: A Modern Approach", two copies')
    assert Repair.AI_COLON in repairs


def test_trap_12_ai_colon_inside_a_result() -> None:
    torn = 'R {"title": "The Next Big Thing in \nASSISTANT: Top Trends"}'
    messages, repairs = clean(chat(ASK, f"A {GET}", torn, f"A Yes.{END}"))
    assert messages[2] == ("tool", '{"title": "The Next Big Thing in AI: Top Trends"}')
    assert repairs == [Repair.AI_COLON]


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("recent developments in", "\n1. [AI and ML](x)", "recent developments in AI:\n1. [AI and ML](x)"),
        ('The book "', ' A Modern Approach" costs $30.', 'The book "AI: A Modern Approach" costs $30.'),
        ("It is called", " The Future.", "It is called AI: The Future."),
    ],
)
def test_trap_12_ai_colon_inside_an_assistant_turn(first: str, second: str, whole: str) -> None:
    messages, repairs = clean(chat(ASK, f"A {first}{END}", f"A{second}{END}"))
    assert messages == [ASKED, ("assistant", whole)]
    assert repairs == [Repair.AI_COLON]


def test_trap_12_ai_colon_inside_a_call() -> None:
    torn = """A <functioncall> {"name": "get_song", "arguments": '{"title": "Life with""" + END
    messages, _ = clean(chat(ASK, torn, """A A Song"}'}""" + END))
    assert messages[1][2] == ("get_song", {"title": "Life with AI: A Song"})


@pytest.mark.parametrize(
    "turns", [["U Hello.\nASSISTANT: Hi", "A x"], [ASK, f"A Let me see{END}", f"A It is so.{END}"]]
)
def test_ai_colon_or_a_turn_nobody_can_tell(turns: list[str]) -> None:
    assert refusal(chat(*turns)) is Drop.ASSISTANT_COLON_UNCLEAR


def test_a_call_behind_an_unfinished_announcement_is_no_damage() -> None:
    assert clean(chat(ASK, f"A Let me see{END}", f"A {GET}"))[0][1] == ("assistant", "Let me see", CALL)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Drop.NOT_AN_OBJECT),
        (["x"], Drop.NOT_AN_OBJECT),
        ({}, Drop.NO_CHAT),
        ({"chat": None}, Drop.NO_CHAT),
        ({"chat": 7}, Drop.NO_CHAT),
        ({"chat": "USER: a\n\n\nASSISTANT: b", "system": 7}, Drop.SYSTEM_NOT_TEXT),
        ({"chat": "USER: a\ud800\n\n\nASSISTANT: b"}, Drop.LONE_SURROGATE),
    ],
)
def test_records_that_are_no_rows(value: Any, reason: Drop) -> None:
    with pytest.raises(DropError) as caught:
        clean_record(Record(0, "line 1", "", value), "glaive")
    assert caught.value.reason is reason


ROW_OF = {
    "other_call_syntax": lambda text: [ASK, f"A {text}", "R x", "A y"],
    "text_before_call": lambda text: [ASK, f"A {text}"],
    "ai_colon_replaced_assistant": lambda text: [ASK, f"A {text}"],
    "ai_colon_in_response": lambda text: [ASK, f"A {GET}", f"R {text}", "A y"],
    "ai_colon_in_user": lambda text: [f"U {text}", "A y"],
    "truncated_function_response": lambda text: [
        ASK,
        f"A {GET}",
        f"R {text.removeprefix('FUNCTION RESPONSE: ')}",
        "A y",
    ],
}
OUTCOME: dict[str, Reason] = {
    "other_call_syntax": Drop.OTHER_CALL_SYNTAX,
    "text_before_call": Repair.CALL_BEHIND_TEXT,
    "ai_colon_replaced_assistant": Repair.AI_COLON,
    "ai_colon_in_response": Repair.AI_COLON,
    "ai_colon_in_user": Repair.AI_COLON,
    "truncated_function_response": Drop.BROKEN_RESULT,
}


def _fragments() -> list[Any]:
    if not DEFECTS.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{DEFECTS} is absent"))]
    rows = [json.loads(line) for line in DEFECTS.open(encoding="utf-8")]
    return [pytest.param(row, id=row["cls"]) for row in rows if row["kind"] in ("assistant", "tool", "user")]


@pytest.mark.parametrize("defect", _fragments())
def test_trap_10_genuine_fragment(defect: dict[str, Any]) -> None:
    text = chat(*ROW_OF[defect["cls"]](defect["text"]))
    system = SYSTEM + function("search_products", keyword=STRING)
    outcome = OUTCOME[defect["cls"]]
    if isinstance(outcome, Drop):
        assert refusal(text, system) is outcome
    else:
        assert outcome in clean(text, system)[1]
