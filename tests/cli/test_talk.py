"""Chats at the terminal: calls are shown, functions run only after a yes, and what was said becomes training data."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from callama.cli.common import guarded
from callama.cli.talk import Offer, read_offer, require_savable, talk
from callama.common.errors import CallamaError, UsageError
from callama.common.signals import ENDING
from callama.contract.grammar import Choice
from callama.contract.messages import Conversation
from callama.evaluate.suites import load_file
from callama.generate.chat import ChatModel
from callama.generate.sampling import Sampling
from callama.tools.run import run
from tests import tiny
from tests.cli.conftest import RunHere
from tests.evaluate.test_compare import call

MODULE = '''
import datetime
import pathlib


def days_until(day: datetime.date) -> dict[str, int]:
    """Days from the first of January 2026."""
    pathlib.Path("ran.txt").write_text("yes")
    return {"days": (day - datetime.date(2026, 1, 1)).days}


def fail(why: str) -> None:
    """Raises."""
    raise LookupError(why)


async def later(x: int) -> list[int]:
    """Answers later."""
    return [x]
'''


CUT = "<cut>"


class Scripted(ChatModel):
    """Says what stands in a list, ``CUT`` where it did not end; keeps the conversations it was given."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = iter(texts), list[Conversation]()

    def answer(
        self,
        conversations: Sequence[Conversation],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        on_done: Callable[[int, bool], None] | None = None,
        choice: Choice | None = None,
    ) -> list[str]:
        self.asked += conversations
        text = next(self.texts)
        if on_done is not None:
            on_done(0, not text.endswith(CUT))
        return [text.removesuffix(CUT)]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("own_calendar.py").write_text(MODULE)
    return Path("own_calendar.py")


def chat(monkeypatch: pytest.MonkeyPatch, model: ChatModel, offer: Offer, typed: Sequence[str], **more: Any) -> None:
    lines = iter([*typed, ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    talk(model, offer, sampling=Sampling(), max_new_tokens=50, **more)


def test_a_function_runs_after_a_yes_and_the_chat_becomes_training_data(
    module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: RunHere, tmp_path: Path
) -> None:
    model = Scripted(call("days_until", day="2026-01-31"), "Thirty days.", "Bye.")
    offer = read_offer([module])
    chat(monkeypatch, model, offer, ["How long?", "y", "Thanks."], save=tmp_path / "chats.jsonl", system="Be brief.")
    assert Path("ran.txt").read_text() == "yes"
    out = capsys.readouterr().out
    assert 'call> days_until({"day": "2026-01-31"})' in out and 'result> {"days": 30}' in out
    assert [m.role for m in model.asked[-1].messages] == ["system", "user", "assistant", "tool", "assistant", "user"]
    chat(monkeypatch, Scripted("Hello."), offer, ["Hi"], save=tmp_path / "chats.jsonl")
    assert len(load_file(tmp_path / "chats.jsonl").cases) == 4
    assert here("callama", "clean", "chats.jsonl", "--out", "clean.jsonl").status == 0
    assert len(Path("clean.jsonl").read_text().splitlines()) == 2
    tiny.write_tokenizer(tmp_path / "tokenizer.json")
    assert here("callama", "build", "clean.jsonl", "--tokenizer", "tokenizer.json", "--out", "built").status == 0


def test_a_function_does_not_run_without_a_yes(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scripted(call("days_until", day="2026-01-31"), "Five.")
    chat(monkeypatch, model, read_offer([module]), ["How long?", '{"days": 5}'])
    assert model.asked[-1].messages[-1].content == '{"days": 5}' and not Path("ran.txt").exists()
    chat(monkeypatch, Scripted(call("days_until", day="x")), read_offer([module]), ["How long?"])
    assert not Path("ran.txt").exists()


def test_of_two_modules_of_one_name_each_keeps_its_functions(module: Path) -> None:
    """Also what a module has imported is no function of the user's."""
    for folder, said in (("a", 1), ("b", 2)):
        Path(folder).mkdir()
        text = f'from os import system\n\ndef wipe() -> int:\n    """Wipe."""\n    return {said}\n'
        Path(folder, "tools.py").write_text(text)
    Path("tools.json").write_text(json.dumps([{"name": "system", "parameters": {}}]))
    offer = read_offer([Path("a/tools.py"), Path("b/tools.py"), Path("tools.json")])
    assert [t.name for t in offer.tools] == ["wipe", "system"] and set(offer.functions) == {"wipe"}
    assert offer.functions["wipe"]() == 1


def test_a_function_that_is_no_tool_is_not_run_for_one_of_its_name(module: Path) -> None:
    Path("a.py").write_text("def wipe(file: object(), /) -> int:\n    return 1\n")
    Path("b.py").write_text('def wipe() -> int:\n    """Wipe."""\n    return 2\n')
    offer = read_offer([Path("a.py"), Path("b.py")])
    assert [t.name for t in offer.tools] == ["wipe"] and offer.tools[0].description == "Wipe."
    assert offer.functions["wipe"]() == 2


def test_bytes_that_are_no_text_are_replaced(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scripted("Hello.")
    chat(monkeypatch, model, read_offer([module]), ["caf\udce9"], system="\udcff")
    assert [m.content for m in model.asked[0].messages] == ["\ufffd", "caf\ufffd"]


def test_input_of_another_encoding_ends_no_chat(
    module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Scripted("Hello.")
    monkeypatch.setattr("callama.cli.common.to_handle", list)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n\n"), "utf-8"))
    with pytest.raises(SystemExit) as ended:
        guarded(lambda: talk(model, read_offer([module]), sampling=Sampling(), max_new_tokens=50))
    assert ended.value.code == 0 and model.asked[0].messages[-1].content == "caf\ufffd"


@pytest.mark.parametrize("lines", [['{"days":', "  [1,", "   2]", "}"], ["[", "1]"], ['{"a": "b"}']])
def test_a_result_may_be_pasted_over_several_lines(
    module: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    model = Scripted(call("days_until", day="2026-01-31"), "Fine.", "Bye.")
    chat(monkeypatch, model, read_offer([module]), ["How long?", *lines, "Thanks."])
    result, said = model.asked[-1].messages[-3].content, model.asked[-1].messages[-1].content
    assert json.loads(result or "") == json.loads("".join(lines)) and said == "Thanks."


def test_a_result_that_only_looks_like_json_ends_at_an_empty_line(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Scripted(call("days_until", day="2026-01-31"), "Fine.")
    chat(monkeypatch, model, read_offer([module]), ["How long?", "{see below", "", "", "y"])
    assert model.asked[-1].messages[-1].content == "{see below"


def test_a_signal_in_the_middle_of_a_function_ends_the_chat() -> None:
    """A function's own exit is its result, and the process's is none."""

    def asked_to_end() -> None:
        signal.raise_signal(signal.SIGTERM)

    assert "SystemExit" in run(lambda: sys.exit(143), {})
    before = [signal.getsignal(number) for number in ENDING]
    try:
        with pytest.raises(SystemExit) as ended:
            guarded(lambda: run(asked_to_end, {}))
    finally:
        for number, handler in zip(ENDING, before, strict=True):
            signal.signal(number, handler)
    assert ended.value.code == 143


def test_numbers_of_numpy_are_numbers() -> None:
    value = {"sum": np.int64(42), "mean": np.float32(1.5), "ok": np.bool_(True), "rows": np.arange(2000), "at": object}
    told = json.loads(run(lambda: value, {}))
    assert told == {"sum": 42, "mean": 1.5, "ok": True, "rows": list(range(2000)), "at": "<class 'object'>"}
    assert run(lambda: np.int64(42), {}) == "42"


def test_a_result_does_not_steer_the_terminal(
    module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("esc.py").write_text('def page() -> str:\n    """A page."""\n    return "\\x1b[2Jgone \\u202eback"\n')
    chat(monkeypatch, Scripted(call("page"), "Fine."), read_offer([Path("esc.py")]), ["Show it.", "y"])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "\\u202eback" in out


@pytest.mark.parametrize("value", ["caf\udce9.txt", ["caf\udce9.txt"], {"name": "caf\udce9.txt"}])
def test_a_file_name_that_is_no_text_ends_no_chat(value: object) -> None:
    assert "caf\ufffd.txt" in run(lambda: value, {})


def test_what_a_model_says_does_not_steer_the_terminal(
    module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chat(monkeypatch, Scripted("\x1b[2JHa\x07\n\tyes"), read_offer([module]), ["Hi"])
    assert "model> \\x1b[2JHa\\x07\n\tyes" in capsys.readouterr().out


def test_only_the_users_own_functions_run(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tools.json").write_text(json.dumps([{"name": "remove", "parameters": {}}]))
    offer = read_offer([Path("tools.json"), module])
    assert set(offer.functions) == {"days_until", "fail", "later"} and offer.tools[0].name == "remove"
    model = Scripted(call("remove"), "Done.", call("open", file="/etc/passwd"), "Bye.")
    chat(monkeypatch, model, offer, ["Go.", "y", "Again.", "Then not."])
    assert [m.content for m in model.asked[-1].messages if m.role == "tool"] == ["y"]


def test_what_a_function_raises_is_told_to_the_model(module: Path) -> None:
    functions = read_offer([module]).functions
    assert run(functions["fail"], {"why": "no such day"}) == '{"error": "LookupError: no such day"}'
    assert "ValidationError" in run(functions["days_until"], {"day": "soon"})
    assert "ValidationError" in run(functions["days_until"], {"today": 1})
    assert run(functions["later"], {"x": 3}) == "[3]"
    assert json.loads(run(lambda: float("inf"), {})) == {"error": json.loads(run(lambda: float("inf"), {}))["error"]}
    assert "SystemExit" in run(lambda: exit(3), {})


def test_a_broken_call_is_taken_back_and_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Scripted('{"tool_uses": [', "Hello.")
    chat(monkeypatch, model, Offer(), ["One", "Two"], save=tmp_path / "c.jsonl")
    (record,) = map(json.loads, (tmp_path / "c.jsonl").read_text().splitlines())
    assert [m["content"] for m in record["messages"]] == ["Two", "Hello."]
    chat(monkeypatch, Scripted('{"tool_uses": ['), Offer(), ["One"], save=tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


BAD = [
    ("", "(an empty answer;"),
    (" \n", "(an empty answer;"),
    (call("nope", x=1), '(a call of a function that is not offered: nope({"x": 1});'),
    (call("get_current_weather", unit="celsius"), 'a call that does not fit its function: get_current_weather({"unit"'),
    (call("get_current_weather", location="Oslo", unit="kelvin"), "get_current_weather: arguments['unit']: "),
    (call("get_current_weather", location="Oslo", day=1), "get_current_weather has no parameter 'day';"),
    ("It is cold and" + CUT, "(an answer that is not whole after 50 tokens;"),
]


@pytest.mark.parametrize(("said", "words"), BAD)
def test_what_is_no_training_data_is_said_and_taken_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, said: str, words: str
) -> None:
    model = Scripted(call("get_current_weather", location="Oslo"), said, "Hello.")
    chat(monkeypatch, model, Offer(), ["One", "12", "Two"], save=tmp_path / "c.jsonl")
    out = capsys.readouterr().out
    assert words in out and "your last message is taken back)" in out and out.count("call>") == 1
    (record,) = map(json.loads, (tmp_path / "c.jsonl").read_text().splitlines())
    assert [m["content"] for m in record["messages"]] == ["Two", "Hello."]


@pytest.mark.parametrize(
    ("name", "held"),
    [("a.json", '[\n{"messages": []}\n]'), ("a.json", '{\n"messages": []\n}'), ("a.jsonl", "["), ("a.jsonl", "words"),
     ("a.jsonl", "[1]\n"), ("a.jsonl.gz", None), ("a.zst", None), ("a.parquet", None)],
)  # fmt: skip
def test_a_chat_is_appended_to_json_lines_only(tmp_path: Path, name: str, held: str | None) -> None:
    path = tmp_path / name
    if held is not None:
        path.write_text(held)
    with pytest.raises(UsageError, match=rf"{name} (does not start with a JSON object|names a packed file)"):
        require_savable(path)
    assert held is None or path.read_text() == held


@pytest.mark.parametrize("held", [None, "", "\n", '{"messages": []}', '\n{"messages": []}\n{torn'])
def test_a_chat_can_be_appended_to_lines_or_nothing(tmp_path: Path, held: str | None) -> None:
    if held is not None:
        (tmp_path / "a.json").write_text(held)
    require_savable(tmp_path / "a.json")


def test_what_cannot_work_is_said_before_a_model_is_loaded(module: Path, here: RunHere) -> None:
    Path("broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(CallamaError, match=r"broken\.py:1: importing it fails"):
        read_offer([Path("broken.py")])
    with pytest.raises(UsageError, match="does not exist"):
        read_offer([Path("none.json")])
    for arguments in (["--tools", "broken.py"], ["--save", "."]):
        done = here("callama", "chat", "none", *arguments)
        assert done.status in (1, 2) and ("broken.py:1" in done.err or "is a folder" in done.err)
