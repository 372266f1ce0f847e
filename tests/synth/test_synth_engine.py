"""What every synthetic conversation promises: valid, grounded, reproducible, and on its own side of
the wall between training and held-out tools."""

from __future__ import annotations

import datetime
import functools
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from callama.common.errors import CallamaError, UsageError
from callama.contract.jsontext import dumps, loads_strict
from callama.contract.messages import Conversation, Message
from callama.contract.tool_uses import answer_segments, parse_answer
from callama.synth.catalogue import FOLDER, SIDES, Side, load_catalogue
from callama.synth.engine import GROUP_SIZE, group, synthesise
from callama.synth.moments import long_date
from callama.synth.names import words_of
from callama.synth.scenarios import DEFAULT_WEIGHTS, SCENARIOS, shares
from callama.synth.stage import Stage
from callama.synth.ways import NUMBER_WORDS
from callama.synth.write import HELD_OUT, TRAIN, write_sets

CALLING = set(SCENARIOS) - {"decline", "plain_chat", "missing_argument", "invalid_value", "no_tools", "languages"}


@functools.cache
def sample(side: Side) -> tuple[Conversation, ...]:
    return tuple(synthesise(2000, 11, side=side))


def everything() -> Iterator[Conversation]:
    yield from sample("train")
    yield from sample("held_out")


def of(name: str) -> list[Conversation]:
    found = [c for c in everything() if c.labels["scenario"] == name]
    assert len(found) > 50
    return found


def user_text(messages: tuple[Message, ...]) -> str:
    return "\n".join(m.content or "" for m in messages if m.role == "user")


def given_text(messages: tuple[Message, ...]) -> str:
    """What users and tools said."""
    return "\n".join(m.content or "" for m in messages if m.role in ("user", "tool"))


@functools.cache
def phrases() -> dict[str, frozenset[str]]:
    """All words of the catalogue for a value of an enum or a boolean."""
    out: dict[str, set[str]] = {}
    for spec in load_catalogue().specs:
        for said in spec.says.values():
            for value, words in said.items():
                out.setdefault(value, set()).update(w.rstrip(".!") for w in words)
    return {k: frozenset(v) for k, v in out.items()}


def is_said(value: Any, text: str) -> bool:
    """Whether the text states the value: as it is, as a long date, counted from today, as a number in words, or by a
    phrase of the catalogue."""
    if isinstance(value, dict):
        return all(is_said(v, text) for v in value.values())
    if isinstance(value, list):
        return all(is_said(v, text) for v in value)
    forms = {str(value)} if not isinstance(value, bool) else set()
    if isinstance(value, float):
        forms.add(f"{value:.2f}")
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        forms.add(long_date(value))
        day = datetime.date.fromisoformat(value)
        for said, days in (("today", 0), ("tomorrow", 1), ("the day after tomorrow", 2)):
            today = (day - datetime.timedelta(days)).isoformat()
            if re.search(rf"(Today is|It is|It's) ({today}|{long_date(today)})", text, re.IGNORECASE):
                forms |= {said, said.capitalize()}
    if isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= 12:
        forms |= {NUMBER_WORDS[value], NUMBER_WORDS[value].capitalize()}
    forms |= phrases().get(str(value).lower() if isinstance(value, bool) else str(value), frozenset())
    before, after = (r"(?<!\w)", r"(?!\w)") if isinstance(value, str) else (r"(?<!\w)(?<!\d\.)", r"(?!\d|\.\d)")
    return any(re.search(rf"{before}{re.escape(form)}{after}", text) for form in forms)


def test_conversations_are_canonical() -> None:
    for c in everything():
        assert Conversation.from_dict(c.to_dict()) == c


def test_calls_are_declared_and_valid() -> None:
    for c in everything():
        tools = {t.name: t for t in c.tools}
        for call in (call for m in c.messages for call in m.tool_calls):
            schema = tools[call.name].parameters
            jsonschema_rs.validate(schema, call.arguments)
            shown = [p for p in schema["properties"] if p in call.arguments]
            assert list(call.arguments) == shown, "arguments stand in the order of the schema"


def test_arguments_are_said_before_the_call() -> None:
    for c in everything():
        for i, message in enumerate(c.messages):
            text = given_text(c.messages[:i])
            for call in message.tool_calls:
                for name, value in call.arguments.items():
                    assert is_said(value, text), (name, value, text)


def test_requests_read_cleanly() -> None:
    for c in everything():
        if c.labels["scenario"] == "languages":
            continue  # French sets a space before its question mark
        text = user_text(c.messages)
        assert not re.search(r"[{}]|\.\.|  | [.,?!]( |$)", text), text


def test_assistant_turns_can_be_written_and_read_back() -> None:
    for c in everything():
        for m in c.messages:
            if m.role == "assistant":
                answer = parse_answer("".join(s.text for s in answer_segments(m)))
                assert answer.kind == ("call" if m.tool_calls else "text")
                assert [(k.name, k.arguments) for k in answer.calls] == [(k.name, k.arguments) for k in m.tool_calls]
            if m.role == "tool":
                assert dumps(loads_strict(m.content or "")) == m.content


def test_the_same_seed_gives_the_same_conversations() -> None:
    first = [c.to_dict() for c in synthesise(200, 3, side="train")]
    assert first == [c.to_dict() for c in synthesise(200, 3, side="train")]
    assert first[:50] == [c.to_dict() for c in synthesise(50, 3, side="train")]
    size = GROUP_SIZE["train"]
    twentieth = [c.to_dict() for c in group(20, 3, side="train", weights=shares())]
    assert first[20 * size : 21 * size] == twentieth
    assert first != [c.to_dict() for c in synthesise(200, 4, side="train")]


def test_training_conversations_share_their_opening_in_groups() -> None:
    size = GROUP_SIZE["train"]
    for start in range(0, 600, size):
        members = sample("train")[start : start + size]
        systems = [[m for m in c.messages if m.role == "system"] for c in members]
        assert all(
            (c.tools, system) == (members[0].tools, systems[0]) for c, system in zip(members, systems, strict=True)
        )
        assert len({dumps(c.to_dict()["messages"]) for c in members}) > size / 2


def test_no_tool_stands_on_both_sides() -> None:
    def names(side: Side) -> set[str]:
        return {"".join(words_of(t.name)) for c in sample(side) for t in c.tools}

    seen = [names(side) for side in SIDES]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert all(c.labels["side"] == "train" for c in sample("train"))


def test_tools_are_shown_under_many_names() -> None:
    own = {s.name for s in load_catalogue().specs}
    shown = Counter(t.name in own for c in sample("train") for t in c.tools)
    assert 0.15 < shown[False] / shown.total() < 0.4
    lists = (c.tools for c in synthesise(len(sample("train")) * GROUP_SIZE["train"], 11, side="train"))
    assert len({t.name for tools in lists for t in tools}) > 500, "in as many lists of tools as there are in a sample"


def test_scenarios_occur_as_weighted() -> None:
    counts = Counter(c.labels["scenario"] for c in everything())
    for name, weight in DEFAULT_WEIGHTS.items():
        assert counts[name] / counts.total() == pytest.approx(weight / sum(DEFAULT_WEIGHTS.values()), abs=0.025)


def test_calling_scenarios_call() -> None:
    for c in everything():
        if c.labels["scenario"] in CALLING:
            assert c.called()


def test_single_and_choice_make_one_call() -> None:
    for c in of("single") + of("choice"):
        assert len(c.called()) == 1
    assert all(2 <= len(c.tools) <= 20 for c in of("choice"))


def test_parallel_same_calls_one_function_with_different_arguments() -> None:
    for c in of("parallel_same"):
        calls = c.messages[-1].tool_calls
        assert len(calls) >= 2
        assert len({k.name for k in calls}) == 1
        assert len({dumps(k.arguments) for k in calls}) == len(calls)


def test_parallel_different_calls_two_functions_at_once() -> None:
    for c in of("parallel_different"):
        assert len({k.name for k in c.messages[-1].tool_calls}) == 2


def test_missing_argument_asks_before_it_calls() -> None:
    continued = 0
    for c in of("missing_argument"):
        messages = tuple(m for m in c.messages if m.role != "system")
        assert [m.role for m in messages[:2]] == ["user", "assistant"]
        assert not messages[1].tool_calls
        assert (messages[1].content or "").endswith((".", "?"))
        if len(messages) > 2:
            continued += 1
            (call,) = messages[3].tool_calls
            required = next(t for t in c.tools if t.name == call.name).parameters["required"]
            assert any(not is_said(call.arguments[n], messages[0].content or "") for n in required)
    assert 0.4 < continued / len(of("missing_argument")) < 0.7


def test_decline_and_chat_never_call() -> None:
    for c in of("decline") + of("plain_chat"):
        assert c.tools
        assert not c.called()
        assert c.messages[-1].role == "assistant"


def test_what_is_missing_is_often_of_the_domain_that_is_shown() -> None:
    catalogue = load_catalogue()
    train = catalogue.side("train")
    cast = tuple(s for s in train if s.domain == "tasks")[:2]
    stage = Stage(random.Random(1), train, catalogue.talk, "train", frozenset(), cast)
    absent = [stage.absent() for _ in range(400)]
    assert 0.5 < sum(s.domain == "tasks" for s in absent) / 400 < 0.7
    rivals = {name for s in cast for name in (s.name, *s.like)}
    assert not rivals & {s.name for s in absent}
    assert len({s.domain for s in absent}) > 20


def test_talk_that_a_tool_on_offer_could_answer_is_left_out() -> None:
    catalogue = load_catalogue()
    offered = [s for s in catalogue.side("train") if s.domain == "geography_facts"]
    stage = Stage(random.Random(1), catalogue.specs, catalogue.talk, "train", frozenset())
    capitals = [e for e in stage.lines("chat", []) if "capital" in e["says"][0]]
    assert capitals
    assert not [e for e in stage.lines("chat", offered) if e in capitals]


def test_answers_use_the_result() -> None:
    used = 0
    for c in of("answer_from_result"):
        *_, result, answer = c.messages
        assert result.role == "tool"
        used += any(str(v) in (answer.content or "") for v in loads_strict(result.content or "").values())
    assert used / len(of("answer_from_result")) > 0.8


def test_follow_up_changes_the_call() -> None:
    for c in of("follow_up"):
        first, second = [k for m in c.messages for k in m.tool_calls]
        assert first.name == second.name
        assert first.arguments != second.arguments
        assert (first.id, second.id) == ("call_0", "call_1")


def test_requests_hardly_repeat() -> None:
    """Of the scenarios that ask for a call; greetings and tools without parameters are said in few ways."""
    asking = ["single", "choice", "parallel_same", "parallel_different", "follow_up"]
    made = synthesise(6000, 1, side="train", scenarios=asking)
    requests = [next(m.content for m in c.messages if m.role == "user") for c in made if c.messages[-1].tool_calls]
    assert len(set(requests)) >= 0.97 * len(requests)


def test_conversations_are_short() -> None:
    for side in SIDES:
        lengths = sorted(len(dumps(c.to_dict()["messages"])) for c in sample(side))
        assert lengths[len(lengths) * 9 // 10] < 1200


def test_scenarios_can_be_chosen() -> None:
    chosen = {c.labels["scenario"] for c in synthesise(50, 1, side="held_out", scenarios=["single", "decline"])}
    assert chosen == {"single", "decline"}
    with pytest.raises(UsageError, match=r"unknown scenario 'sing'.*single, choice"):
        synthesise(1, 1, side="train", scenarios=["sing"])
    with pytest.raises(UsageError, match="negative"):
        synthesise(-1, 1, side="train")


def test_weights_can_be_chosen() -> None:
    weights = {"single": 3.0, "parallel_same": 1.0, "plain_chat": 0.0}
    made = synthesise(1200, 1, side="train", scenarios=["single", "plain_chat"], weights=weights)
    counts = Counter(c.labels["scenario"] for c in made)
    assert set(counts) == {"single", "parallel_same"}
    assert counts["single"] / counts.total() == pytest.approx(0.75, abs=0.05)
    with pytest.raises(UsageError, match="no scenario given"):
        synthesise(1, 1, side="train", scenarios=["single"], weights={"single": 0})
    with pytest.raises(UsageError, match="weight of single must be 0 or more, found -1"):
        synthesise(1, 1, side="train", weights={"single": -1})


def test_a_scenario_that_no_tool_can_play_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CallamaError, match="no tool of the side held_out can play sequence"):
        list(synthesise(1, 1, side="held_out", scenarios=["sequence"], folder=one_tool(tmp_path)))


def one_tool(folder: Path) -> Path:
    """A catalogue of a single training tool."""
    shutil.copy(FOLDER / "_talk.json", folder)
    tools = json.loads((FOLDER / "weather.json").read_text())["tools"][:1]
    (folder / "weather.json").write_text(json.dumps({"side": "train", "tools": tools}))
    return folder


def test_what_one_side_cannot_play_is_left_out_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tools").mkdir()
    folder = one_tool(tmp_path / "tools")
    counts = write_sets(tmp_path / "out", 30, 5, val_ratio=0, seed=1, scenarios=["single"], folder=folder)
    assert counts == {TRAIN: {"single": 30}, HELD_OUT: {}}
    assert "no tool of the side held_out can play single: left out there" in capsys.readouterr().err
    with pytest.raises(CallamaError, match="no tool of any side that is wanted can play sequence"):
        write_sets(tmp_path / "none", 30, 5, val_ratio=0, seed=1, scenarios=["sequence"], folder=folder)
    assert not (tmp_path / "none").exists()


def test_little_is_said_twice(tmp_path: Path) -> None:
    """Greetings and refusals make room for others of their scenario, and keep their share."""
    counts = write_sets(tmp_path / "out", 5000, 0, val_ratio=0, seed=4)[TRAIN]
    lines = [loads_strict(line) for line in (tmp_path / "out" / TRAIN).read_text().splitlines()]
    said = Counter(dumps([m.get("content") for m in line["messages"] if m["role"] != "system"]) for line in lines)
    repeats = sum(said.values()) - len(said)
    assert repeats < 0.006 * len(lines)
    drawn = Counter(c.labels["scenario"] for c in synthesise(5000, 4, side="train"))
    assert counts["plain_chat"] == pytest.approx(drawn["plain_chat"], rel=0.35)


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    files = []
    for workers in (1, 2, 3):
        write_sets(tmp_path / str(workers), 1900, 30, val_ratio=0.05, seed=2, workers=workers)
        files.append([(tmp_path / str(workers) / name).read_bytes() for name in (TRAIN, HELD_OUT)])
    assert files[0] == files[1] == files[2]
    texts = [loads_strict(line.decode()) for line in files[0][0].splitlines()]
    assert len(texts) == 1900
    assert Counter(c["labels"]["split"] for c in texts) == {"train": 1805, "validation": 95}


def test_no_request_for_a_call_is_written_twice(tmp_path: Path) -> None:
    """Where there are others: of 3,000 conversations about a handful of scenarios, none repeats."""
    asking = ["single", "choice", "parallel_same", "parallel_different"]
    write_sets(tmp_path / "out", 3000, 0, val_ratio=0, seed=2, scenarios=asking)
    made = [Conversation.from_dict(loads_strict(line)) for line in (tmp_path / "out" / TRAIN).read_text().splitlines()]
    requests = [
        next(m.content for m in c.messages if m.role == "user")
        for c in made
        if any(k.arguments for m in c.messages for k in m.tool_calls)
    ]
    assert len(requests) > 2700
    assert len(set(requests)) == len(requests)
    drawn = [next(m.content for m in c.messages if m.role == "user") for c in synthesise(3000, 2, side="train")]
    assert len(set(drawn)) < len(drawn), "the engine itself does repeat"


def test_as_many_held_out_conversations_of_every_scenario(tmp_path: Path) -> None:
    counts = write_sets(tmp_path / "out", 0, 7, val_ratio=0, seed=2, held_out_each=4)
    assert counts[HELD_OUT] == dict.fromkeys(sorted(SCENARIOS), 4)
    lines = [loads_strict(line) for line in (tmp_path / "out" / HELD_OUT).read_text().splitlines()]
    assert len({dumps(line["messages"]) for line in lines}) == len(lines)
    assert all(line["labels"]["side"] == "held_out" for line in lines)
    # Not every scenario is played with the same tools.
    first = {tuple(tool["function"]["name"] for tool in line["tools"]) for line in lines[::4]}
    assert len(first) > len(lines[::4]) // 2
