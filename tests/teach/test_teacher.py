"""A teacher on this machine that answers well, badly, or not at all: what passes, what is refused, what is paid
for once."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.contract.messages import Conversation, Tool, ToolCall
from callama.data.audit import check_made
from callama.data.quarantine import DropError
from callama.data.read import read_conversations
from callama.evaluate.endpoint import Patience
from callama.evaluate.reply import Reply
from callama.synth.catalogue import Catalogue, load_catalogue
from callama.synth.own import write_own_catalogue
from callama.teach.judge import conversation_of, request_of
from callama.teach.plan import Plan, Wish, plan
from callama.teach.run import Teaching, teach
from callama.teach.sense import _unsaid, check_request, check_words
from callama.tools.load import load_tools
from tests.evaluate.stub_server import completion, serving

TOOLS = [
    {"name": "get_weather", "description": "Get the weather of a city.",
     "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
    {"name": "book_table", "description": "Book a table in a restaurant.",
     "parameters": {"type": "object", "properties": {"restaurant": {"type": "string"},
                    "guests": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["restaurant", "guests"]}},
]  # fmt: skip
FAST = Patience(timeout_seconds=5.0, attempts=2, pause_seconds=0.01)


def good(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """Says the values that it was given, and calls what it is asked for."""
    text = body["messages"][-1]["content"]
    if "tools" not in body:
        wish = re.search(r"wants this: (.*?)\.(?: The user forgets.*)?\n", text)
        said = wish[1].replace(", with ", ": ").replace("; and, in the same message, this:", "; also") if wish else ""
        return 200, {}, completion(f"Please {said}" if said else "How do you do?")
    calls = [("get_weather", json.dumps({"city": c})) for c in re.findall(r"weather of a city: city ([^;,]+)", text)]
    calls += [
        ("book_table", json.dumps({"guests": int(g), "restaurant": r}))
        for r, g in re.findall(r"restaurant: restaurant ([^;]+), guests (\d+)", text)
    ]
    offered = {t["function"]["name"] for t in body["tools"]}
    calls = [c for c in calls if c[0] in offered]
    return 200, {}, completion(None, calls) if calls else completion(spoken(text, offered))


def spoken(text: str, offered: set[str]) -> str:
    """Asks for what is missing, refuses what no tool does, chats."""
    opening = ("Well", "Oh", "Hm", "Let me see", "Ah", "Sure", "Right", "Fine")[len(text) % 8]
    if "do you do" in text:
        return f"{opening}, I am fine and have a good day."
    if ("get_weather" if "weather" in text else "book_table") not in offered:
        return f"{opening}, I am sorry, I can't do that."
    missing = "city" if "weather" in text else "restaurant" if "guests" in text else "number of guests"
    return f"{opening}, which {missing} do you mean?"


def run(tmp_path: Path, url: str, count: int = 12, **more: Any) -> dict[str, Any]:
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(TOOLS))
    pace = {"requests_per_minute": more.pop("rate", 0), "slots": more.pop("slots", 3)}
    teaching = Teaching(url, "m", **pace, patience=more.pop("patience", FAST))
    common = {"val_ratio": 0.25, "seed": 1, **more}
    return teach(tmp_path / "out", load_tools([mine]), count, 3, teaching, **common)


def test_what_a_teacher_writes_well_is_kept(tmp_path: Path) -> None:
    with serving(good) as (url, requests):
        report = run(tmp_path, url)
    kept = list(read_conversations(tmp_path / "out" / "train.jsonl"))
    assert len(kept) == 12 == sum(report["files"]["train.jsonl"].values())
    assert [c.labels["split"] for c in kept] == ["train"] * 9 + ["validation"] * 3
    assert len(list(read_conversations(tmp_path / "out" / "held_out.jsonl"))) == 3
    for conversation in kept:
        check_made(conversation)
        for message in conversation.messages:
            for call in message.tool_calls:
                if call.name == "book_table":
                    assert list(call.arguments) == ["restaurant", "guests"], "in the schema's order"
    assert report["teacher"]["requests"] == len(requests) == report["teacher"]["prompt_tokens"]


def test_a_second_run_asks_nothing_again(tmp_path: Path) -> None:
    with serving(good) as (url, requests):
        first = run(tmp_path, url)
        asked, written = len(requests), (tmp_path / "out" / "train.jsonl").read_bytes()
        second = run(tmp_path, url)
        assert len(requests) == asked
        assert (first, written) == (second, (tmp_path / "out" / "train.jsonl").read_bytes())
        run(tmp_path, url, seed=2)
        assert len(requests) > asked


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    def breaks_off(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return good(body) if len(requests) <= 20 else (402, {}, {"error": "out of credit"})

    with serving(breaks_off) as (url, requests), pytest.raises(CallamaError, match=r"in a row.*out of credit.*goes on"):
        run(tmp_path, url, count=40)
    assert not (tmp_path / "out").exists()
    journal = tmp_path / "out.teacher.jsonl"
    paid = len(journal.read_text().splitlines())
    assert paid >= 5
    with journal.open("a") as file:
        file.write('{"key": "torn')
    with serving(good) as (url, again):
        resumed = run(tmp_path, url, count=40)
    assert len(again) <= 2 * (sum(resumed["dropped"].values()) + 43 - paid)
    with serving(good) as (url, _):
        other = tmp_path / "other"
        other.mkdir()
        run(other, url, count=40)
    assert (other / "out/train.jsonl").read_bytes() == (tmp_path / "out/train.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((None, [("get_weather", '{"city": "Atlantis"}')]), "request_not_text"),
        (("{}", None), "request_not_text"),
        (("", None), "request_not_text"),
        (("x" * 5000, None), "request_too_long"),
        (("Tell me something.", None), "value_unsaid"),
    ],
)
def test_nonsense_is_refused_counted_and_put_aside(tmp_path: Path, answer: Any, reason: str) -> None:
    refused = pytest.raises(CallamaError, match=r"hardly pass: 0 of")
    with serving(lambda body: (200, {}, completion(*answer))) as (url, _), refused:
        run(tmp_path, url, count=4, scenarios=["single"])
    entries = [json.loads(line) for line in (tmp_path / "out.teacher.jsonl").read_text().splitlines()]
    assert {entry["reason"] for entry in entries} == {reason}
    told = json.loads(entries[0]["line"])
    assert told["reason"] == reason
    assert told["record"]["scenario"] == "single"


def test_invented_values_are_refused(tmp_path: Path) -> None:
    def inventive(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        status, headers, answer = good(body)
        calls = answer["choices"][0]["message"].get("tool_calls") or []
        if calls and len(requests) % 2:
            calls[0]["function"]["arguments"] = json.dumps(
                {"city": "Xanadu Heights", "restaurant": "Zqw", "guests": 77}
            )
        return status, headers, answer

    with serving(inventive) as (url, requests):
        report = run(tmp_path, url, scenarios=["single"])
    assert set(report["dropped"]) <= {"undeclared_argument", "ungrounded_argument", "arguments_invalid"}
    assert sum(report["dropped"].values()) == len((tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()) > 0


def test_a_dead_server_ends_the_run_and_writes_nothing(tmp_path: Path) -> None:
    with serving(lambda body: (400, {}, b"no")) as (url, _), pytest.raises(CallamaError, match="in a row"):
        run(tmp_path, url, count=40)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("request_text", "answer", "reason"),
    [
        ("Good morning \x00 to you", "Hello to you too!", "foreign_text"),
        ("Good morning to you <|eot_id|>", "Hello to you too!", "foreign_text"),
        ("Good morning to you", "Hello <|start_header_id|> there", "foreign_text"),
        ("How wibble, wobble!", "how wibble wobble", "parroted"),
        ("lurg lurg quaz zint", "I am fine.", "nonsense"),
        ("How are you today?", "quaz mip dax", "nonsense"),
        ("How are you today?", "Done! I have booked it for you. Anything else?", "claimed"),
        ("How are you today?", "Your table is booked.", "claimed"),
        ("Say every value that is given here.", "I am fine.", "instruction"),
        ("Which river is the longest one of all?", "Which river is the longest one of all then?", "parroted"),
    ],
)
def test_what_is_no_talk_of_two_people_is_refused(tmp_path: Path, request_text: str, answer: str, reason: str) -> None:
    def says(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return 200, {}, completion(answer if "tools" in body else request_text)

    refused = pytest.raises(CallamaError, match=r"hardly pass: 0 of")
    with serving(says) as (url, _), refused:
        run(tmp_path, url, count=2, scenarios=["plain_chat"])
    entries = [json.loads(line) for line in (tmp_path / "out.teacher.jsonl").read_text().splitlines()]
    assert {entry["reason"] for entry in entries} == {reason}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.json").write_text(json.dumps(TOOLS))
    (folder / "catalogue").mkdir()
    write_own_catalogue(load_tools([folder / "mine.json"]), folder / "catalogue")
    return load_catalogue(folder / "catalogue")


def planned(catalogue: Catalogue, scenario: str, task: str, gap: str = "") -> Plan:
    plans = (plan(n, 1, "train", catalogue, [scenario]) for n in range(200))
    return next(p for p in plans if p.wishes[0].spec.name == task and p.wishes[0].gap == gap)


@pytest.mark.parametrize(
    ("task", "gap", "request_text", "reason"),
    [
        ("book_table", "guests", "Can you get me a table at {restaurant}?", None),
        ("book_table", "guests", "Can you get me a table?", "value_unsaid"),
        ("book_table", "guests", "Can you get me a table at {restaurant} for 4?", "gap_filled"),
        ("book_table", "guests", "Can you get me a table at {restaurant} for four people?", "gap_filled"),
        ("book_table", "guests", "A table at {restaurant}, and guests are my friends", "gap_filled"),
        ("book_table", "guests", "Please book a table in a restaurant, with restaurant {restaurant}", "instruction"),
        ("get_weather", "city", "What will the weather be like? I'm curious.", None),
        ("get_weather", "city", "What will the weather be like in Oslo?", "gap_filled"),
        ("get_weather", "city", "The user forgets to say the place.", "instruction"),
    ],
)
def test_what_is_to_be_missing_is_missing(
    catalogue: Catalogue, task: str, gap: str, request_text: str, reason: str | None
) -> None:
    asked = planned(catalogue, "missing_argument", task, gap)
    text = request_text.format(**asked.wishes[0].said)
    assert refused(lambda: check_request(asked, text)) == reason


def test_every_value_of_a_call_was_said_and_no_other_is_called(catalogue: Catalogue) -> None:
    asked = planned(catalogue, "single", "book_table")
    said = dict(asked.wishes[0].said)
    text = f"A table at {said['restaurant']} for {said['guests']}, please."
    other = said["guests"] % 9 + 1

    def answered(**arguments: Any) -> str | None:
        call = ToolCall("book_table", {**said, **arguments}, "call_0")
        return refused(lambda: conversation_of(asked, f"{text} It is {other} o'clock.", Reply("call", "", (call,))))

    assert refused(lambda: check_request(asked, text)) is None
    assert refused(lambda: check_request(asked, f"A table for {said['guests']}, please.")) == "value_unsaid"
    assert answered() is None
    assert answered(guests=other) == "other_values"
    assert refused(lambda: conversation_of(asked, text, Reply("text", "Which table?"))) == "not_as_planned"


def test_what_a_teacher_thinks_is_no_part_of_what_it_says(catalogue: Catalogue) -> None:
    asked = planned(catalogue, "missing_argument", "get_weather", "city")
    request = request_of(
        asked, Reply.read("<think>\nNo city, so none here.\n</think>\n\nWhat will the weather be like?")
    )
    answer = Reply.read("<think>The city is missing: ask.</think> Which city do you mean?")
    messages = conversation_of(asked, request, answer).messages
    assert [m.content for m in messages] == ["What will the weather be like?", "Which city do you mean?"]


def test_an_example_out_of_a_description_is_not_what_was_said(tmp_path: Path) -> None:
    symbol = {"type": "string", "description": "Ticker symbol, e.g. AAPL, MSFT"}
    tool = {"name": "get_stock_price", "description": "Get a stock price.",
            "parameters": {"type": "object", "properties": {"symbol": symbol}, "required": ["symbol"]}}  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps([tool]))
    (tmp_path / "catalogue").mkdir()
    write_own_catalogue(load_tools([tmp_path / "mine.json"]), tmp_path / "catalogue")
    own = load_catalogue(tmp_path / "catalogue")
    asked = planned(own, "single", "get_stock_price")
    assert refused(lambda: check_request(asked, "What does the stock cost now?")) == "value_unsaid"
    chat = plan(0, 1, "train", own, ["plain_chat"])
    assert refused(lambda: check_request(chat, "What is the stock price of AAPL?")) == "tool_wanted"
    assert refused(lambda: check_request(chat, "How are you today?")) is None


@pytest.mark.parametrize(
    ("name", "description", "parameters", "request_text", "reason"),
    [
        ("get_weather", "Get the weather", "location unit", "What unit is used for pressure?", None),
        ("create_user", "Create a new user account", "first_name age", "Who was the first man on the moon?", None),
        ("create_user", "Create a new user account", "first_name age", "I had an average day.", None),
        ("search_movies", "Search movies", "query year", "How many days are there in a year?", None),
        ("send_email", "Send an email to a recipient", "to message", "Hi, just a message to say hello!", None),
        ("get_stock", "Get stock", "is_active order_by", "In which order do planets circle the sun?", None),
        ("get_news", "Get the latest news", "topic max_results", "What is the maximum depth of the ocean?", None),
        (
            "create_user",
            "Create a new user account",
            "first_name year",
            "Put me in: first Ann, year 1990",
            "tool_wanted",
        ),
        ("search", "Search the timetable", "flight_number day", "When does the flight leave?", "tool_wanted"),
        ("search_movies", "Search movies", "query year", "Which movie should I see?", "tool_wanted"),
    ],
)
def test_a_parameters_everyday_word_asks_for_no_tool(
    catalogue: Catalogue, name: str, description: str, parameters: str, request_text: str, reason: str | None
) -> None:
    properties = {parameter: {"type": "string"} for parameter in parameters.split()}
    tool = Tool(name, description, {"type": "object", "properties": properties, "required": []})
    chat = replace(plan(0, 1, "train", catalogue, ["plain_chat"]), tools=(tool,))
    assert refused(lambda: check_request(chat, request_text)) == reason


@pytest.mark.parametrize(
    ("scenario", "gap", "answer", "reason"),
    [
        ("missing_argument", "guests", "How many of you will come?", None),
        ("missing_argument", "guests", "Sure. What is the number of guests?", None),
        ("missing_argument", "guests", "Done! I have booked it for you, confirmation 14. Anything else?", "claimed"),
        ("missing_argument", "guests", "I\u2019ve just reserved it. How many guests are there?", "claimed"),
        ("missing_argument", "guests", "The table costs 214 euros. How many guests are there?", "claimed"),
        ("missing_argument", "guests", "Which restaurant is it?", "no_question"),
        ("missing_argument", "guests", "Is there anything else that you would like?", "no_question"),
        ("missing_argument", "guests", "If a required value is missing, ask for it. Guests?", "instruction"),
        ("decline", "", "I'm sorry, I need to be honest: I have no tool for tables.", None),
        ("decline", "", "I can look up the weather, that is all. A table is beyond me.", None),
        ("decline", "", "Of course! Your table has been booked.", "claimed"),
        ("decline", "", "Certainly, consider it as good as booked.", "not_declined"),
    ],
)
def test_an_answer_without_a_call_claims_nothing(
    catalogue: Catalogue, scenario: str, gap: str, answer: str, reason: str | None
) -> None:
    asked = planned(catalogue, scenario, "book_table", gap)
    assert refused(lambda: check_words(asked, "Please find me a table.", answer)) == reason


def refused(check: Callable[[], None]) -> str | None:
    try:
        check()
    except DropError as error:
        return error.reason.value
    return None


def test_answers_that_are_alike_are_thinned(tmp_path: Path) -> None:
    def monotonous(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        status, headers, answer = good(body)
        message = answer["choices"][0]["message"]
        if "tools" in body and "which" in (message["content"] or ""):
            message["content"] = "Which city or restaurant, and what number of guests?"
        return status, headers, answer

    with serving(monotonous) as (url, _):
        report = run(tmp_path, url, count=20, scenarios=["single", "missing_argument"])
    names = ("train.jsonl", "held_out.jsonl")
    kept = [c for name in names for c in read_conversations(tmp_path / "out" / name)]
    assert sum(c.labels["scenario"] == "missing_argument" for c in kept) == 3
    assert report["dropped"]["same_answer"] > 0


def test_no_conversation_is_taught_twice(tmp_path: Path) -> None:
    with serving(good) as (url, _):
        report = run(tmp_path, url, count=40)
    said = [
        re.sub(r"\W+", " ", c.messages[0].content or "").casefold()
        for name in ("train.jsonl", "held_out.jsonl") for c in read_conversations(tmp_path / "out" / name)
    ]  # fmt: skip
    assert len(said) == len(set(said)) == 43
    refused = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert report["dropped"]["repeated"] == sum(entry["reason"] == "repeated" for entry in refused) > 0


def test_a_scenario_that_gave_nothing_is_named(tmp_path: Path) -> None:
    with serving(good) as (url, _):
        assert run(tmp_path, url, scenarios=["single", "missing_argument"])["not_played"] == []
        (tmp_path / "one").mkdir()
        alone = tmp_path / "one" / "mine.json"
        alone.write_text(json.dumps(TOOLS[:1]))
        teaching = Teaching(url, "m", patience=FAST)
        report = teach(tmp_path / "one" / "out", load_tools([alone]), 6, 0, teaching, val_ratio=0.0, seed=1,
                       scenarios=["single", "parallel_different"])  # fmt: skip
    assert report["not_played"] == ["parallel_different"]
    assert report["files"]["train.jsonl"] == {"single": 6}


def test_a_wrong_key_ends_the_run_at_once(tmp_path: Path) -> None:
    ended = pytest.raises(CallamaError, match=r"refuses every question: HTTP 401.*it wrote nothing")
    with serving(lambda body: (401, {}, b"who are you")) as (url, requests), ended:
        run(tmp_path, url, count=40)
    assert len(requests) <= 6
    assert not (tmp_path / "out.teacher.jsonl").exists()


def _no_address(*args: object, **more: object) -> NoReturn:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("host", ["127.0.0.1", "nobody.invalid"])
def test_a_server_that_is_not_there_ends_the_run_at_once(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host == "nobody.invalid":  # where no name server answers either, that would be a passing trouble
        monkeypatch.setattr(socket, "getaddrinfo", _no_address)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens at it, and nobody else gets it
        url = f"http://{host}:{taken.getsockname()[1]}/v1"
        patient = Patience(timeout_seconds=5.0, attempts=4, pause_seconds=30.0)
        with pytest.raises(CallamaError, match=r"cannot be reached: .*; start the server there, .*; it wrote nothing$"):
            run(tmp_path, url, count=40, patience=patient)
    assert not (tmp_path / "out").exists()


def test_what_got_no_answer_is_not_counted_as_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def moody(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return (503, {}, b"come back later") if len(requests) in (5, 6, 7) else good(body)

    monkeypatch.setattr("callama.common.progress.LOG_EVERY_SECONDS", 0.0)
    with serving(moody) as (url, requests):
        report = run(tmp_path, url, slots=1, patience=Patience(timeout_seconds=5.0, attempts=1))
    said = capsys.readouterr().err
    assert report["teacher"]["unanswered"] == 3
    assert "0 refused, 3 without an answer, the last: HTTP 503 " in said
    assert "teacher_failed" not in report["dropped"]
    assert sum(report["dropped"].values()) == len((tmp_path / "out" / "quarantine.jsonl").read_text().splitlines())


def test_requests_keep_the_rate(tmp_path: Path) -> None:
    with serving(good) as (url, requests):
        start = time.monotonic()
        run(tmp_path, url, count=3, rate=1200)
        assert time.monotonic() - start >= (len(requests) - 1) * 0.05


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^'localhost' is no address"):
        run(tmp_path, "localhost")
    with pytest.raises(UsageError, match="knows no scenario 'nope'"):
        run(tmp_path, "http://localhost:1/v1", scenarios=["nope"])


def test_labels_say_where_a_conversation_is_from(tmp_path: Path) -> None:
    with serving(good) as (url, _):
        run(tmp_path, url, count=4)
    lines = (tmp_path / "out" / "train.jsonl").read_text().splitlines()
    assert all(Conversation.from_dict(json.loads(line)).labels["source"] == "teacher" for line in lines)


@pytest.mark.parametrize(
    ("schema", "value", "request_text", "unsaid"),
    [
        ({"type": "string", "enum": ["in_progress", "done"]}, "in_progress", "Set it to in progress, please.", False),
        ({"type": "string", "enum": ["in_progress", "done"]}, "in_progress", "Set it, please.", True),
        ({"type": "integer", "default": 4}, 4, "A table for four people, please.", False),
        ({"type": "integer", "default": 4}, 4, "A table, please.", True),
        ({"type": "string", "enum": ["USD", "EUR"]}, "EUR", "How much is that in euros?", False),
        ({"const": "event"}, "event", "Put it into my calendar.", False),
    ],
)
def test_choices_and_defaults_may_be_said_in_other_words(
    tmp_path: Path, schema: dict[str, Any], value: Any, request_text: str, unsaid: bool
) -> None:
    tool = Tool("do_it", "Do a thing", {"type": "object", "properties": {"it": schema}, "required": ["it"]})
    spec: Any = SimpleNamespace(name="do_it", tool=tool, task="do a thing")
    asked = _unsaid(Wish(spec, {"it": value}), request_text)
    assert bool(asked) is unsaid
