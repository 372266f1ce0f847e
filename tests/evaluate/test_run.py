"""Evaluation end to end on real models: a random one, and the same one taught by a short training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.common.files import sha256_file, write_json
from callama.contract.grammar import Choice
from callama.contract.messages import Conversation, Message, Tool, ToolCall, dump_line
from callama.evaluate.cases import Case
from callama.evaluate.compare import compare
from callama.evaluate.journal import answers_file
from callama.evaluate.local import LocalModel
from callama.evaluate.rates import RATES, rates
from callama.evaluate.reply import Reply
from callama.evaluate.report import said
from callama.evaluate.run import evaluate
from callama.evaluate.suites import load_file
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


def local(folder: Path, max_new_tokens: int = 60, slots: int = 5) -> LocalModel:
    return LocalModel(folder, max_new_tokens=max_new_tokens, slots=slots)


class Scripted:
    """Answers from a list and stops, as a killed run does, after ``limit`` answers."""

    def __init__(self, texts: Sequence[str], limit: int = 10**6, name: str = "scripted") -> None:
        self.texts, self.limit, self.asked = texts, limit, 0
        self.identity, self.slots = {"name": name}, 16

    def close(self) -> None:
        """Nothing to free."""

    def answer(self, cases: Sequence[Case], keep: Callable[[int, Reply], None]) -> None:
        for index in range(len(cases)):
            if self.asked == self.limit:
                raise KeyboardInterrupt
            self.asked += 1
            text = self.texts[index % len(self.texts)]
            keep(index, Reply.failed("busy") if text == "FAIL" else Reply.read(text))


def test_report_of_base_and_tuned(world: Path) -> None:
    suite = load_file(world / "conversations.jsonl")
    result = evaluate([suite], {"base": local(world / "model"), "tuned": local(world / "tuned")})
    report = result.report
    facts = {"name": "conversations.jsonl", "file": "conversations.jsonl", "cases": 20, "broken_records": {}}
    assert report["suite"] == {**facts, "sha256": sha256_file(world / "conversations.jsonl")}
    assert set(report["base"]) == set(report["tuned"]) >= {*RATES, "scenarios"}
    for name in ("base", "tuned"):
        counts = {rate: report[name][rate]["count"] for rate in RATES if report[name][rate]["count"]}
        calls = dict.fromkeys(("parse_rate", "schema_valid", "right_function", "exact_call", "exact_sequence"), 16)
        whole = dict.fromkeys(("right_turn", "malformed", "hallucinated", "failed", "cut"), 20)
        assert counts == {**calls, **whole, "right_abstention": 4}
        assert {n: r["count"] for n, r in report[name]["scenarios"].items()} == {"answer_from_result": 8, "single": 12}
        outcomes = result.outcomes["conversations.jsonl"][name]
        texts = [outcome.reply.text for outcome in outcomes]
        folder = world / {"base": "model"}.get(name, name)
        assert texts == ChatModel(folder, slots=5).answer([o.case.prompt for o in outcomes], 60)
    assert report["base"]["parse_rate"]["hits"] == report["base"]["exact_call"]["hits"] == 0
    assert report["tuned"]["parse_rate"]["hits"] >= 8
    paired = report["paired"]
    assert paired["only_second"] + paired["both"] == report["tuned"]["right_turn"]["hits"]
    json.dumps(report, allow_nan=False)


def test_a_limit_takes_conversations_from_the_start(world: Path) -> None:
    cases = load_file(world / "conversations.jsonl", 5).cases
    assert len(cases) == 7
    assert [c.expected for c in cases] == [
        m for i in range(5) for m in tiny.conversation(i).messages if m.role == "assistant"
    ]


def test_answers_are_cut_at_max_new_tokens(world: Path) -> None:
    suite = load_file(world / "conversations.jsonl", 3)
    outcomes = evaluate([suite], {"tuned": local(world / "model", 4)}).outcomes["conversations.jsonl"]["tuned"]
    model, prompts = ChatModel(world / "model", device="cpu"), [case.prompt for case in suite.cases]
    assert [o.reply.text for o in outcomes] == model.answer(prompts, 4) != model.answer(prompts, 8)
    assert [o.reply.cut for o in outcomes] == [not made.stopped for made in model.generate(prompts, 4)]
    assert all(said(o).endswith(" (cut at --max-new-tokens)") for o in outcomes if o.reply.cut)
    assert rates(outcomes)["cut"]["hits"] == sum(o.reply.cut for o in outcomes) > 0


def test_calls_that_the_limit_cuts_are_known_beforehand(world: Path) -> None:
    cases = [c for c in load_file(world / "conversations.jsonl").cases if c.wants_call]
    longest = max(local(world / "tuned", 1).calls_too_long(cases))
    enough, short = local(world / "tuned", longest), local(world / "tuned", longest - 1)
    assert enough.calls_too_long(cases) == [] and set(short.calls_too_long(cases)) == {longest}
    for model in (enough, short):
        replies: dict[int, Reply] = {}
        model.answer(cases, replies.__setitem__)
        right = [i for i, case in enumerate(cases) if replies[i].calls == case.expected.tool_calls]
        cut = [i for i, reply in replies.items() if reply.cut]
        assert bool(cut) is (model is short) and right, "the trained model gives the wanted calls"


def test_a_suite_without_answers_is_refused(tmp_path: Path) -> None:
    suite = tiny.write_conversations(tmp_path / "suite.jsonl", [Conversation((Message("user", "Hello?"),))])
    with pytest.raises(CallamaError, match=r"suite\.jsonl holds no assistant turn to test"):
        load_file(suite)
    with pytest.raises(UsageError, match=r"none\.jsonl does not exist"):
        load_file(tmp_path / "none.jsonl")


def test_models_are_checked_before_time_is_spent(tmp_path: Path, world: Path) -> None:
    with pytest.raises(UsageError, match="none is not a folder"):
        local(tmp_path / "none")
    (tmp_path / "bare").mkdir()
    for name in ("params.json", "consolidated.pth"):
        (tmp_path / "bare" / name).symlink_to(world / "model" / name)
    with pytest.raises(CallamaError, match="tokenizer"):
        local(tmp_path / "bare")


def test_broken_records_are_counted_and_put_aside(tmp_path: Path, world: Path) -> None:
    glaive = {"system": "", "chat": "USER: Hi\n\n\nASSISTANT: Hello. <|endoftext|>\n\n\n"}
    lines = [dump_line(tiny.conversation(1)), "{torn", '{"messages": 5}', json.dumps(glaive), "[1]"]
    (tmp_path / "suite.jsonl").write_text("\n".join(lines))
    suite = load_file(tmp_path / "suite.jsonl")
    assert [case.expected.content for case in suite.cases] == [None, "Hello."]
    assert sum(suite.facts["broken_records"].values()) == 3
    evaluate([suite], {"tuned": Scripted(["x"])}, out=tmp_path / "r.json")
    kept = [json.loads(line) for line in (tmp_path / "r.quarantine.jsonl").read_text().splitlines()]
    assert [entry["where"] for entry in kept] == ["line 2", "line 3", "line 5"]
    assert kept[0]["text"] == "{torn" and kept[1]["record"] == {"messages": 5}
    (tmp_path / "all.jsonl").write_text('{"messages": 5}\n{"messages": 6}\n')
    with pytest.raises(CallamaError, match=r"no record of .*all\.jsonl can be read; the first fault: .*line 1"):
        load_file(tmp_path / "all.jsonl")


BOOK = {"name": "book", "description": "", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
ASKED = {"role": "user", "content": "Book Rome, or what is 2 + 2?"}
HERMES = {"role": "system", "content": f"You may call.\n<tools>{json.dumps(BOOK)}</tools>"}
TAGGED = {"role": "assistant", "content": '<tool_call>{"name": "book", "arguments": {"city": "Rome"}}</tool_call>'}


@pytest.mark.parametrize(
    ("record", "called"),
    [
        ({"messages": [HERMES, ASKED, TAGGED]}, ["book"]),
        ({"tools": [], "messages": [HERMES, ASKED, TAGGED]}, ["book"]),
        ({"messages": [ASKED, TAGGED], "tools": [BOOK]}, ["book"]),
        ({"messages": [HERMES, ASKED, {"role": "assistant", "content": "4."}]}, []),
        ({"messages": [ASKED, {"role": "assistant", "content": "4."}], "functions": [BOOK]}, []),
        ({"messages": [ASKED, {"role": "assistant", "content": None,
                               "function_call": {"name": "book", "arguments": '{"city": "Rome"}'}}],
          "functions": [BOOK]}, ["book"]),
    ],
)  # fmt: skip
def test_other_forms_with_messages_are_read_as_cleaning_reads_them(
    tmp_path: Path, record: dict[str, object], called: list[str]
) -> None:
    (tmp_path / "suite.jsonl").write_text(json.dumps(record))
    (case,) = load_file(tmp_path / "suite.jsonl").cases
    assert [tool.name for tool in case.prompt.tools] == ["book"] and not case.plain
    assert [call.name for call in case.expected.tool_calls] == called


def test_a_call_written_as_text_is_no_wanted_text(tmp_path: Path) -> None:
    said = '{"tool_uses": [{"recipient_name": "functions.book", "parameters": {"city": "Rome"}}]}'
    bad = Conversation((Message("user", "Book Rome."), Message("assistant", said)), (Tool.from_dict(BOOK),))
    suite = load_file(tiny.write_conversations(tmp_path / "s.jsonl", [bad, tiny.conversation(1)]))
    assert suite.facts["broken_records"] == {"other_call_syntax": 1} and len(suite.cases) == 1


def test_our_own_form_is_taken_as_it_stands(tmp_path: Path) -> None:
    """Cleaning would cut its end, drop the greeting's conversation and refuse the argument."""
    chat = Conversation(
        (Message("assistant", "Hello."), Message("user", "Book."),
         Message("assistant", "As you wish.", (ToolCall("book", {"town": 5}, "x"),))),
        (Tool.from_dict(BOOK),), {"scenario": "single"},
    )  # fmt: skip
    suite = load_file(tiny.write_conversations(tmp_path / "s.jsonl", [chat]))
    assert [(c.expected, c.prompt.labels) for c in suite.cases] == [(chat.messages[2], chat.labels)]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, world: Path) -> None:
    suite, out = load_file(world / "conversations.jsonl"), tmp_path / "report.json"
    texts = [f"answer {i}" for i in range(20)]
    whole = evaluate([suite], {"tuned": Scripted(texts)})
    with pytest.raises(KeyboardInterrupt):
        evaluate([suite], {"tuned": Scripted(texts, limit=7)}, out=out)
    with answers_file(out).open("a") as file:
        file.write('{"key": "torn by a kill')
    rest = Scripted(texts[7:])
    resumed = evaluate([suite], {"tuned": rest}, out=out)
    assert rest.asked == 13
    assert resumed.report == whole.report
    other = Scripted(texts, name="another model")
    evaluate([suite], {"tuned": other}, out=out)
    assert other.asked == 20


def test_a_run_that_is_stopped_leaves_another_runs_answers(tmp_path: Path) -> None:
    suite = load_file(tiny.write_conversations(tmp_path / "s.jsonl", [tiny.conversation(i) for i in range(4)]))
    out, texts = tmp_path / "report.json", [f"answer {i}" for i in range(6)]
    count = len(suite.cases)
    whole = evaluate([suite], {"tuned": Scripted(texts)}, out=out).report
    write_json(out, whole)
    for name in ("another", "a third"):
        with pytest.raises(KeyboardInterrupt):
            evaluate([suite], {"tuned": Scripted(["x"], limit=2, name=name)}, out=out)
        assert {entry.second["said"] for entry in compare(out, out).pairs} == set(texts[:count])
    again, other = Scripted(texts), Scripted(["x"], name="another")
    assert evaluate([suite], {"tuned": again}, out=out).report == whole and again.asked == 0
    evaluate([suite], {"tuned": other}, out=out)
    assert other.asked == count and len(answers_file(out).read_bytes().splitlines()) == count


class Served(Scripted):
    """One behind an address, whose weights no key can tell."""

    def __init__(self, texts: Sequence[str], limit: int = 10**6) -> None:
        super().__init__(texts, limit)
        self.identity = {"endpoint": "http://localhost/v1", "model": "m"}


def test_a_server_is_asked_anew_when_its_run_was_finished(
    tmp_path: Path, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, out = load_file(world / "conversations.jsonl"), tmp_path / "report.json"
    first = Served(["old"])
    evaluate([suite], {"tuned": first}, out=out)
    assert first.asked == 20 and "taken over" not in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        evaluate([suite], {"tuned": Served(["new"], limit=7)}, out=out)
    assert "taken over" not in capsys.readouterr().err
    rest, local_model = Served(["new"]), Scripted(["base"])
    outcomes = evaluate([suite], {"base": local_model, "tuned": rest}, out=out).outcomes[suite.name]
    assert {o.reply.text for o in outcomes["tuned"]} == {"new"} and (rest.asked, local_model.asked) == (13, 20)
    assert f"7 answers of a run that was stopped are taken over from {answers_file(out)}" in capsys.readouterr().err
    again, local_model = Served(["newer"]), Scripted(["base"])
    evaluate([suite], {"base": local_model, "tuned": again}, out=out)
    assert (again.asked, local_model.asked) == (20, 0)


@pytest.mark.parametrize("known", [0, 1])
def test_a_model_that_answers_nothing_has_no_figures(tmp_path: Path, known: int) -> None:
    suite = load_file(tiny.write_conversations(tmp_path / "s.jsonl", [tiny.conversation(0)]))
    out, failing = tmp_path / "report.json", {"base": Scripted(["Hello."], name="b"), "tuned": Scripted(["FAIL"])}
    with pytest.raises(CallamaError, match=r"tuned answered none of 2 cases, .*; the first: busy; mend that"):
        evaluate([suite], failing, out=out)
    if known:
        evaluate([suite], {"tuned": Scripted(["FAIL", "Hello."])}, out=out)
        assert evaluate([suite], {"tuned": Scripted(["FAIL"])}, out=out).report["tuned"]["failed"]["hits"] == 1


def test_failed_answers_are_asked_for_again(tmp_path: Path, world: Path) -> None:
    suite, out = load_file(world / "conversations.jsonl"), tmp_path / "report.json"
    report = evaluate([suite], {"tuned": Scripted(["FAIL", "Hello."])}, out=out).report
    assert report["tuned"]["failed"]["hits"] == 10
    again = Scripted(["Hello."])
    assert evaluate([suite], {"tuned": again}, out=out).report["tuned"]["failed"]["hits"] == 0 and again.asked == 10


def test_a_prompt_that_does_not_fit_is_a_failed_case(tmp_path: Path, world: Path) -> None:
    long = Conversation((Message("user", "weather " * tiny.CONTEXT), Message("assistant", "No.")))
    suite = load_file(tiny.write_conversations(tmp_path / "s.jsonl", [long, tiny.conversation(1)]))
    first, second = evaluate([suite], {"tuned": local(world / "model", 2)}).outcomes["s.jsonl"]["tuned"]
    assert first.reply.kind == "failed" and "the model's context 1024" in first.reply.reason
    assert second.reply.kind != "failed"


def test_tools_that_no_grammar_can_say_are_a_failed_case(world: Path) -> None:
    """A required value that no text can be: in BFCL's live categories such tools occur."""
    cases = load_file(world / "conversations.jsonl").cases[:3]
    impossible = {"type": "object", "properties": {"n": {"type": "string", "enum": [1, 2]}}, "required": ["n"]}
    prompt = replace(cases[1].prompt, tools=(Tool("buy", "Buy tickets.", impossible),))
    replies: dict[int, Reply] = {}
    model = LocalModel(world / "tuned", max_new_tokens=20, slots=2, constrained=True)
    model.answer([cases[0], replace(cases[1], prompt=prompt), cases[2]], replies.__setitem__)
    assert {index: reply.kind for index, reply in replies.items() if reply.kind == "failed"} == {1: "failed"}
    assert "tool buy: its schema cannot be made a grammar" in replies[1].reason and replies.keys() == {0, 1, 2}


def test_a_grammar_that_grows_too_large_costs_its_own_case_only(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llguidance compiles it and gives up in the middle of the answer."""
    monkeypatch.setattr("callama.evaluate.local.Choice", partial(Choice, required=True))
    cases = load_file(world / "conversations.jsonl").cases[:3]
    forms = [{"type": "array", "items": {"type": "boolean"}, "maxItems": 2000 + i % 2} for i in range(200)]
    wide = {"type": "object", "properties": {"n": {"anyOf": forms}}, "required": ["n"]}
    prompt = replace(cases[1].prompt, tools=(Tool("buy", "Buy tickets.", wide),))
    model = LocalModel(world / "tuned", max_new_tokens=20, slots=2, constrained=True)
    replies: dict[int, Reply] = {}
    model.answer([cases[0], replace(cases[1], prompt=prompt), cases[2]], replies.__setitem__)
    alone: dict[int, Reply] = {}
    model.answer([cases[0], cases[2]], alone.__setitem__)
    assert replies[1].kind == "failed" and "items; max is 2000" in replies[1].reason
    assert [replies[0], replies[2]] == [alone[0], alone[1]]


def test_several_suites_stand_side_by_side_without_a_sum(tmp_path: Path, world: Path) -> None:
    few = tiny.write_conversations(tmp_path / "few.jsonl", [tiny.conversation(0)])
    suites = [load_file(world / "conversations.jsonl"), load_file(few)]
    report = evaluate(suites, {"tuned": Scripted(["x"])}).report
    assert {name: of["suite"]["cases"] for name, of in report["suites"].items()} == {
        "conversations.jsonl": 20,
        "few.jsonl": 2,
    }
    assert report["tuned"] == report["suites"]["conversations.jsonl"]["tuned"]
