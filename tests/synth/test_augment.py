"""Cleaned conversations turned into other scenarios: what must hold for each of them."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.contract.jsontext import loads_strict
from callama.contract.messages import Conversation, Message, Tool, ToolCall, dump_line
from callama.data.audit import check_made
from callama.data.read import read_conversations
from callama.synth.augment.changes import corrected_call, decline, distractors, joined, missing_argument
from callama.synth.augment.run import SCENARIOS, augment_file
from callama.synth.engine import synthesise


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("augment") / "clean.jsonl"
    path.write_text("".join(f"{dump_line(c)}\n" for c in synthesise(900, 5, side="train")))
    return path


def augmented(
    source: Path, out: Path, **options: Any
) -> tuple[dict[str, Any], list[tuple[Conversation, Conversation]]]:
    """The report, and each new conversation with the one that it came from."""
    report = augment_file(source, out, **{"workers": 1, **options})
    old = list(read_conversations(source))
    return report, [(old[c.labels["augmented_from"]], c) for c in read_conversations(out)]


def test_every_result_passes_the_audits_and_is_counted(source: Path, tmp_path: Path) -> None:
    report, pairs = augmented(source, tmp_path / "out.jsonl")
    assert set(report["made"]) == set(SCENARIOS)
    assert sum(report["made"].values()) == len(pairs) > 600
    assert report["read"] == 900 == len(pairs) + sum(report["dropped"].values()) + report["nothing_fits"]
    quarantined = (tmp_path / "out.jsonl.quarantine.jsonl").read_text().splitlines()
    assert len(quarantined) == sum(report["dropped"].values())
    for _, new in pairs:
        check_made(new)


def test_distractors_change_nothing_but_the_tools(source: Path, tmp_path: Path) -> None:
    _, pairs = augmented(source, tmp_path / "out.jsonl", scenarios=["distractors"])
    for old, new in pairs:
        assert new.messages == old.messages
        assert {t.name for t in old.tools} < {t.name for t in new.tools}
        assert new.called()


def test_decline_takes_the_needed_tool_away(source: Path, tmp_path: Path) -> None:
    _, pairs = augmented(source, tmp_path / "out.jsonl", scenarios=["decline"])
    for old, new in pairs:
        first = next(m for m in old.messages if m.tool_calls)
        assert not {c.name for c in first.tool_calls} & {t.name for t in new.tools}
        assert not new.called()
        assert new.tools
        assert new.messages[:-1] == old.messages[: old.messages.index(first)]


def test_a_missing_argument_is_asked_for_and_given(source: Path, tmp_path: Path) -> None:
    _, pairs = augmented(source, tmp_path / "out.jsonl", scenarios=["missing_argument"])
    for old, new in pairs:
        place = next(i for i, m in enumerate(new.messages) if m.tool_calls)
        request, question, reply = new.messages[place - 3 : place]
        values = map(str, new.messages[place].tool_calls[0].arguments.values())
        value = next(v for v in values if reply.content in (v, f"{v}.", f"{v}, please.", f"It's {v}."))
        assert value not in (request.content or "").split()
        assert re.search(r"\bthe |Which |I use for \"", question.content or "")
        assert new.messages[place:] == old.messages[place - 2 :]


@pytest.mark.parametrize(
    ("request_text", "left"),
    [
        ("Book a good table in Rome for 4, please.", "Book a good table for 4, please."),
        ("I need a good hotel in Rome, with a pool.", "I need a good hotel, with a pool."),
        ("Plan a long trip for the summer. The town is Rome.", "Plan a long trip for the summer."),
        ("Plan a trip: town: Rome; month: May", "Plan a trip: month: May"),
        ("Plan a trip (month: May; town: Rome).", "Plan a trip (month: May)."),
        ("Plan a trip\ntown: Rome\nmonth: May", "Plan a trip\nmonth: May"),
        ("Plan a trip: town: Rome", None),
        ("Please tell me how long it takes to get to Rome.", None),
        ("How far is it between Rome and the sea?", None),
        ("I paid $Rome for this, what now?", None),
        ("My town is called Rome. And now?", None),
        ("My Rome broke, find me a new one.", None),
        ("Is Rome dangerous? Get its safety sheet.", None),
        ("What does Rome say? Summarise it.", None),
        ("I have to be at Rome at 08:00 and start.", None),
        ("I need it in Rome.", None),
        ("Put my best friend on Rome.", None),
        ("Find charging stations in Rome. I need ccs. Scratch that, take Basel.", None),
        ("Sorry, I mean a table in Rome, not Dhaka.", None),
        ("5 stars for Rome, please.", None),
        ("I was born in Rome, so tell me my rights.", None),
        ("My new bike was made in Rome. Find a shop.", None),
        ("My battery is low and I'm in Rome, find me a charger.", None),
    ],
)
def test_a_request_with_a_gap_in_it_is_left_alone(request_text: str, left: str | None) -> None:
    schema = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
    call = ToolCall("travel_time", {"town": "Rome"}, "call_0")
    messages = (Message("user", request_text), Message("assistant", None, (call,)))
    made = missing_argument(Conversation(messages, (Tool("travel_time", "", schema),)), random.Random(0), ())
    assert (made and made.messages[0].content) == left


def test_what_a_user_replies_is_not_shortened() -> None:
    schema = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
    call = ToolCall("travel_time", {"town": "Rome"}, "call_0")
    said = [
        Message("user", "Book a table."),
        Message("assistant", "Where?"),
        Message("user", "A good one in Rome, please."),
    ]
    conversation = Conversation((*said, Message("assistant", None, (call,))), (Tool("travel_time", "", schema),))
    assert missing_argument(conversation, random.Random(0), ()) is None


@pytest.mark.parametrize(
    ("name", "asked"),
    [("city", "city"), ("the_city", "city"), ("distance_km", "distance"), ("to", 'for "to"'),
     ("send_at", 'for "send at"'), ("x", 'for "x"')],
)  # fmt: skip
def test_what_is_missing_is_asked_for_in_words(name: str, asked: str) -> None:
    schema = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    call = ToolCall("travel_time", {name: "Rome"}, "call_0")
    messages = (Message("user", "Book a good table in Rome."), Message("assistant", None, (call,)))
    for seed in range(8):
        made = missing_argument(Conversation(messages, (Tool("travel_time", "", schema),)), random.Random(seed), ())
        assert made
        assert f" {asked}" in (made.messages[1].content or "")
        assert "the the" not in (made.messages[1].content or "")


def of(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": list(names)}


STOCK = Tool("get_stock_price", "Get the current stock price", of("symbol"))
FLIGHT = Tool("book_flight", "Book a flight between two cities", of("origin", "destination"))
MUSIC = Tool("play_song", "Play a song", of("song"))


def test_what_a_later_turn_declines_is_not_put_on_offer() -> None:
    messages = (
        Message("user", "What is the price of AAPL?"),
        Message("assistant", None, (ToolCall("get_stock_price", {"symbol": "AAPL"}, "call_0"),)),
        Message("tool", '{"price": 150.5}', (), "call_0"), Message("assistant", "It is 150.5."),
        Message("user", "Can you also book a flight to London?"), Message("assistant", "I'm sorry, I can't."),
    )  # fmt: skip
    conversation = Conversation(messages, (STOCK,))
    made = [distractors(conversation, random.Random(seed), (FLIGHT, MUSIC)) for seed in range(20)]
    assert all(m and {t.name for t in m.tools} == {"get_stock_price", "play_song"} for m in made)


def test_no_two_that_do_the_same_are_joined() -> None:
    def calling(text: str, tools: tuple[Tool, ...], **arguments: str) -> Conversation:
        call = ToolCall(tools[0].name, dict(arguments), "call_0")
        return Conversation((Message("user", text), Message("assistant", None, (call,))), tools)

    password = Tool("generate_password", "Generate a random password", of("length"))
    other = Tool("generate_random_password", "Generate a random password of a length", of("length"))
    first = calling("I need a password of 12 characters.", (password,), length="12")
    assert joined(first, calling("Play Hey Jude.", (MUSIC, other), song="Hey Jude"), random.Random(1)) is None
    assert joined(first, calling("Play Hey Jude.", (MUSIC, FLIGHT), song="Hey Jude"), random.Random(1)) is not None


@pytest.mark.parametrize(
    ("request_text", "called", "beside"),
    [
        ("Get me the article on bees.", Tool("requestArticle", "Request an article from a library."),
         Tool("getArticle", "Retrieve information about a specific article.")),
        ("Is (p AND q) true?", Tool("checkLogicExpression", "Check the validity of a logical expression."),
         Tool("proveStatement", "Prove the truth of a statement using logic.")),
        ("Create a gateway for the VPC v1.", Tool("createGateway", "Create an internet gateway."),
         Tool("createSubnet", "Create a subnet within a VPC.")),
        ("My bill is $50 and I want to leave a 15% tip.", Tool("calculate_tip", "Calculate the tip for a bill."),
         Tool("calculate_percentage", "Calculate the percentage of a number.")),
        ("What do I owe?", Tool("calculate_tip", "Calculate the tip for a bill.", of("tip_percentage")),
         Tool("calculate_percentage", "Calculate the percentage of a number.")),
    ],
)  # fmt: skip
def test_nothing_is_declined_beside_a_tool_that_may_do_it(request_text: str, called: Tool, beside: Tool) -> None:
    messages = (Message("user", request_text), Message("assistant", None, (ToolCall(called.name, {}, "call_0"),)))
    assert decline(Conversation(messages, (called, beside)), random.Random(0), ()) is None
    stranger = Tool("play_music", "Play a song.")
    assert decline(Conversation(messages, (called, stranger)), random.Random(0), ()) is not None


@pytest.mark.parametrize(
    ("name", "description", "parameter", "value", "known"),
    [
        ("get_movie", "Get the details of a movie.", "title", "Inception", True),
        ("create_todo", "Create a new to-do.", "title", "Buy groceries", False),
        ("send_email", "Send an e-mail.", "subject", "Monthly Report", False),
        ("get_ancestry", "Get the ancestry of a sample.", "dna_sample", "CGATCGAT", False),
        ("get_distance", "Get the distance between two places.", "location1", "New York", True),
        ("get_stability", "Get the stability of a slope.", "location", "construction site", False),
        ("order_pizza", "Order a pizza: Margherita or Funghi.", "kind", "Margherita", True),
    ],
)
def test_only_what_a_tool_looks_up_is_unknown_to_it(
    name: str, description: str, parameter: str, value: str, known: bool
) -> None:
    schema = {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]}
    messages = (
        Message("user", f"Please use {value} for it."),
        Message("assistant", None, (ToolCall(name, {parameter: value}, "call_0"),)),
    )
    conversation = Conversation(messages, (Tool(name, description, schema),))
    made = [corrected_call(conversation, random.Random(seed), ()) for seed in range(6)]
    assert any(made) is known
    assert "location1" not in "".join(m.messages[2].content or "" for m in made if m)


def test_a_refusal_speaks_in_verbs_and_not_of_what_has_no_words() -> None:
    user, call = Message("user", "Weather in Rome?"), ToolCall("get_weather", {}, "call_0")

    def refused(*others: Tool) -> str:
        tools = (Tool("get_weather", "Get the weather."), *others)
        conversation = Conversation((user, Message("assistant", None, (call,))), tools)
        made = decline(conversation, random.Random(1), ())
        assert made
        return made.messages[-1].content or ""

    opaque, named = Tool("task_74", ""), Tool("number.is_prime", "Whether a number is prime <|eot_id|>.")
    said = refused(opaque, named)
    assert said.endswith(("tell whether a number is prime.", "tell whether a number is prime if you like."))
    for silent in (Tool("fE45", ""), Tool("match_result_v2", ""), Tool("feed_times", "Feed times for an animal")):
        assert "I can " not in refused(opaque, silent)
        assert not {"use", "task", "feed", "match"} & set(refused(opaque, silent).split())


def test_a_request_that_needs_several_steps_is_neither_joined_nor_half_declined(source: Path, tmp_path: Path) -> None:
    _, pairs = augmented(source, tmp_path / "out.jsonl", scenarios=["parallel"])
    for old, _ in pairs:
        place = next(i for i, m in enumerate(old.messages) if m.tool_calls)
        behind = itertools.takewhile(lambda m: m.role != "user", old.messages[place + 1 :])
        assert not any(m.tool_calls for m in behind)
    _, pairs = augmented(source, tmp_path / "more.jsonl", scenarios=["decline"])
    for old, new in pairs:
        place = next(i for i, m in enumerate(old.messages) if m.tool_calls)
        steps = itertools.takewhile(lambda m: m.role != "user", old.messages[place:])
        assert not {c.name for m in steps for c in m.tool_calls} & {t.name for t in new.tools}


def test_nobody_greets_in_the_middle(source: Path, tmp_path: Path) -> None:
    _, pairs = augmented(source, tmp_path / "out.jsonl", scenarios=["parallel"])
    middle = re.compile(
        r"[.?!] (?:Also, |And |One more thing: |Besides, )(?:hi|hey|hello|good morning|ok)\b", re.IGNORECASE
    )
    assert not [new for _, new in pairs if middle.search(new.messages[-2].content or "")]


def test_a_bad_line_costs_only_itself(source: Path, tmp_path: Path) -> None:
    lines = source.read_text().splitlines()[:40]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("\n".join([lines[0], "{", '{"messages": 3}', *lines[1:]]) + "\n")
    report = augment_file(mixed, tmp_path / "out.jsonl", workers=1)
    assert (
        report["read"] == 42 == sum(report["made"].values()) + sum(report["dropped"].values()) + report["nothing_fits"]
    )
    assert report["dropped"]["wrong_shape"] == 2
    aside = [json.loads(line) for line in (tmp_path / "out.jsonl.quarantine.jsonl").read_text().splitlines()]
    assert [entry["row"] for entry in aside if entry["reason"] == "wrong_shape"] == [1, 2]


def test_a_misspelt_value_is_corrected_by_the_error(source: Path, tmp_path: Path) -> None:
    _, pairs = augmented(source, tmp_path / "out.jsonl", scenarios=["corrected_call"])
    for old, new in pairs:
        first, second = [c for m in new.messages for c in m.tool_calls][:2]
        fault = next(m for m in new.messages if m.role == "tool")
        (changed,) = [k for k in first.arguments if first.arguments[k] != second.arguments[k]]
        assert str(second.arguments[changed]) in loads_strict(fault.content or "")["error"]
        assert second.arguments == next(m for m in old.messages if m.tool_calls).tool_calls[0].arguments


def test_a_failure_is_reported_and_nothing_claimed(source: Path, tmp_path: Path) -> None:
    _, pairs = augmented(source, tmp_path / "out.jsonl", scenarios=["tool_failure"])
    for _, new in pairs:
        *_, call, result, report = new.messages
        assert len(call.tool_calls) == 1
        assert loads_strict(result.content or "")["error"] in (report.content or "")


def test_two_calls_become_parallel(source: Path, tmp_path: Path) -> None:
    _, pairs = augmented(source, tmp_path / "out.jsonl", scenarios=["parallel"])
    for old, new in pairs:
        assert len(new.messages[-1].tool_calls) == 2
        first = next(m for m in old.messages if m.tool_calls).tool_calls[0]
        assert new.messages[-1].tool_calls[0].arguments == first.arguments
        assert new.labels.get("split") == old.labels.get("split")


def test_the_number_of_workers_changes_nothing(source: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        augment_file(source, tmp_path / f"{workers}.jsonl", workers=workers, seed=7)
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_wrong_use_and_bad_input(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        augment_file(tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="unknown scenario 'nope'"):
        augment_file(source, tmp_path / "out.jsonl", scenarios=["nope"])
    with pytest.raises(UsageError, match="source itself"):
        augment_file(source, source)
    raw = tmp_path / "raw.jsonl"
    raw.write_text('{"system": "", "chat": "USER: hi"}\n')
    with pytest.raises(CallamaError, match=r"raw\.jsonl, line 1.*callama clean"):
        augment_file(raw, tmp_path / "out.jsonl")
    chat = tmp_path / "chat.jsonl"
    chat.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}))
    with pytest.raises(CallamaError, match="nothing could be made of 1"):
        augment_file(chat, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
