"""Models behind an OpenAI-compatible server: what is sent, how answers are read, and what bad servers get."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from concurrent.futures import Future
from itertools import chain, repeat
from typing import Any

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.contract.messages import Conversation
from callama.evaluate.cases import Case, cases_of
from callama.evaluate.endpoint import HOPELESS_AFTER, Endpoint, Patience
from callama.evaluate.reply import Reply
from callama.evaluate.score import score
from tests import tiny
from tests.evaluate.stub_server import Answerer, completion, serving

QUICK = Patience(timeout_seconds=30.0, attempts=3, pause_seconds=0.01)
PROMPT = tiny.conversation(0)


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, "m", max_new_tokens=50, slots=3, patience=QUICK)


def ask(answerer: Answerer, prompt: Conversation = PROMPT) -> tuple[Reply, list[dict[str, Any]]]:
    with serving(answerer) as (url, requests):
        return endpoint(url).ask(prompt), requests


def says(content: str | None, calls: list[tuple[str, Any]] | None = None) -> Answerer:
    return lambda body: (200, {}, completion(content, calls))


def message(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"message": fields, "finish_reason": "stop"}]}


# A part of a content that is a list.
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Is it warm?"}]}


def test_what_is_sent_and_how_a_call_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLAMA_API_KEY", "sesame")
    call = {"function": {"name": "geo.find", "arguments": {"q": "Ø"}}}
    raw = {
        "tools": [{"name": "geo.find"}, {"name": "geo_find"}],
        "messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "tool_calls": [call]},
                     {"role": "tool", "content": "here"}],
    }  # fmt: skip
    reply, requests = ask(says(None, [("geo_find", '{"q": 1}'), ("geo_find_2", "")]), Conversation.from_dict(raw))
    assert [(c.name, c.arguments) for c in reply.calls] == [("geo.find", {"q": 1}), ("geo_find", {})]
    body = requests[0]["body"]
    assert requests[0]["path"] == "/v1/chat/completions" and requests[0]["headers"]["Authorization"] == "Bearer sesame"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, 50)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["geo_find", "geo_find_2"]
    sent = body["messages"][1]["tool_calls"][0]
    assert sent["function"] == {"name": "geo_find", "arguments": '{"q": "Ø"}'}
    assert body["messages"][2]["tool_call_id"] == sent["id"]


@pytest.mark.parametrize(
    ("answerer", "kind"),
    [
        (says("It is warm."), "text"),
        (says(None, [("get_weather", '{"city": "Oslo"}')]), "call"),
        (says('{"tool_uses": [{"recipient_name": "functions.get_weather", "parameters": {}}]}'), "call"),
        (says("<tool_call> {}"), "malformed"),
        (says(None, [("get_weather", '{"city": ')]), "malformed"),
        (says(None, [("get_weather", "[1]")]), "malformed"),
        (says(None, [("get_weather", "")]), "call"),
        (says(None, [("get_weather", "null")]), "call"),
        (lambda body: (200, {}, message(tool_calls=[{"id": "c", "function": {"name": "get_weather"}}])), "call"),
        (lambda body: (200, {}, message(content=[{"type": "text", "text": "Warm."}])), "text"),
        (lambda body: (200, {}, message(content=[THOUGHT, {"type": "text", "text": "Warm."}])), "text"),
        (lambda body: (200, {}, message(content=[THOUGHT])), "malformed"),
        *((says(None, [("get_weather", value)]), "malformed") for value in (0, False, [], [1])),
        (says(None), "malformed"),
        (says(""), "malformed"),
    ],
)
def test_kinds_of_answers(answerer: Answerer, kind: str) -> None:
    reply, requests = ask(answerer)
    assert (reply.kind, len(requests)) == (kind, 1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((429, {"Retry-After": "0"}, {"error": "slow down"}), "HTTP 429"),
        ((503, {}, b"busy"), "HTTP 503"),
        ((200, {}, b"<html>hello</html>"), "not a chat completion"),
        ((200, {}, {"choices": []}), "not a chat completion"),
        ((200, {}, {"choices": [{"message": {"content": 5}}]}), "content is a int"),
        ((200, {}, completion(None) | {"choices": [{"message": {"tool_calls": [{}]}}]}), "not a chat completion"),
        ((200, {}, b"[" * 100_000), "not a chat completion"),
        *(
            ((200, {}, message(content=[part])), "not a chat completion")
            for part in ("x", {"text": "x"}, {"type": "text", "text": 5}, {"type": "image_url", "image_url": {}})
        ),
        ((200, {}, {"choices": [{"message": {"content": None, "refusal": True}}]}), "refusal is a bool"),
        ((200, {}, {"choices": [{"message": {"content": "", "refusal": {"a": 1}}}]}), "refusal is a dict"),
        ((200, {}, completion("It is") | {"error": {"message": "upstream"}}), "an answer that broke off"),
        (
            (200, {}, {"choices": [{"message": {"content": "It"}, "finish_reason": "error"}]}),
            "an answer that broke off",
        ),
    ],
)
def test_bad_servers_are_asked_again_and_then_count_as_failed(
    answer: tuple[int, dict[str, str], Any], words: str
) -> None:
    reply, requests = ask(lambda body: answer)
    assert (reply.kind, len(requests)) == ("failed", 3) and words in reply.reason and "after 3 attempts" in reply.reason
    abstention = cases_of([PROMPT])[1]
    assert not abstention.wants_call and not score(abstention, reply).right


def test_a_server_that_recovers_is_believed() -> None:
    answers = iter([(500, {}, b""), (200, {}, b"garbage"), (200, {}, completion("Warm."))])
    reply, requests = ask(lambda body: next(answers))
    assert (reply.kind, reply.text, len(requests)) == ("text", "Warm.", 3)


def sends(*parts: bytes) -> Answerer:
    return lambda body: (0, {}, lambda connection: connection.sendall(b"".join(parts)))


def resets(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    def write(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 500\r\n\r\nab")
        time.sleep(0.1)  # the client reads the body by now
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())

    return 0, {}, write


_CHUNKED = b"\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answerer", "requests_sent"),
    [
        (sends(b"HTTP/1.1 503 Busy", _CHUNKED, b"ZZ\r\n"), 3),
        (sends(b"HTTP/1.1 503 Busy", _CHUNKED, b"50\r\nabc"), 3),
        (sends(b"HTTP/1.1 400 Bad", _CHUNKED, b"50\r\nabc"), 1),
        (resets, 3),
    ],
)
def test_an_error_whose_body_breaks_off_fails_one_case(answerer: Answerer, requests_sent: int) -> None:
    reply, requests = ask(answerer)
    assert (reply.kind, len(requests)) == ("failed", requests_sent)


def test_headers_that_drip_have_a_deadline() -> None:
    given_up = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not given_up.wait(0.05):
            connection.sendall(b"a")

    with serving(lambda body: (0, {}, drip)) as (url, requests):
        patience = Patience(timeout_seconds=0.3, attempts=2, pause_seconds=0.01)
        asked = Future[Reply]()
        model = Endpoint(url, "m", max_new_tokens=5, slots=1, patience=patience)
        threading.Thread(target=lambda: asked.set_result(model.ask(PROMPT)), daemon=True).start()
        try:
            reply = asked.result(10.0)
        finally:
            given_up.set()
    assert (reply.kind, len(requests)) == ("failed", 2) and "timed out" in reply.reason


REFUSED = {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
                                "Use 'max_completion_tokens' instead.", "code": "unsupported_parameter"}}  # fmt: skip


def test_the_limit_is_sent_by_its_newer_name_where_the_server_asks_for_it() -> None:
    def newer(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return (400, {}, REFUSED) if "max_tokens" in body else (200, {}, completion("Warm."))

    with serving(newer) as (url, requests):
        model = Endpoint(url, "m", max_new_tokens=50, slots=1, patience=Patience(attempts=1))
        assert [model.ask(PROMPT).text for _ in range(2)] == ["Warm.", "Warm."]
    assert [r["body"].get("max_completion_tokens") for r in requests] == [None, 50, 50]
    assert [r["body"].get("max_tokens") for r in requests] == [50, None, None]


NO_TEMPERATURE = {"error": {"message": "Unsupported value: 'temperature' does not support 0.0 with this model. "
                                       "Only the default (1) value is supported."}}  # fmt: skip


@pytest.mark.parametrize("also_the_limit", [False, True])
def test_the_temperature_is_left_out_where_the_server_supports_none(also_the_limit: bool) -> None:
    def newer(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if also_the_limit and "max_tokens" in body:
            return 400, {}, REFUSED
        return (400, {}, NO_TEMPERATURE) if "temperature" in body else (200, {}, completion("Warm."))

    with serving(newer) as (url, requests):
        model = endpoint(url)
        assert [model.ask(PROMPT).text for _ in range(2)] == ["Warm.", "Warm."]
    assert model.temperature is None and len(requests) == 3 + also_the_limit


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, "temperature must be at least 0.01"), (402, "temperature: support has no credit"), (400, "not supported")],
)
def test_another_refusal_leaves_the_temperature(status: int, error: str) -> None:
    with serving(lambda body: (status, {}, {"error": error})) as (url, requests):
        model = endpoint(url)
        assert model.ask(PROMPT).kind == "failed"
    assert (model.temperature, len(requests)) == (0.0, 1)


@pytest.mark.parametrize(("answer", "sent"), [((400, {}, REFUSED), 2), ((400, {}, {"error": "max_tokens: 9"}), 1)])
def test_a_limit_that_is_refused_by_both_names_is_refused(answer: tuple[int, dict[str, str], Any], sent: int) -> None:
    reply, requests = ask(lambda body: answer)
    assert (reply.kind, len(requests)) == ("failed", sent) and "HTTP 400" in reply.reason


@pytest.mark.parametrize(
    ("content", "calls", "kind"),
    [("It is", None, "text"), (None, None, "malformed"), (None, [("f", '{"city": "Os')], "malformed"),
     (None, [("f", "{}")], "call"), (None, [("f", "[]")], "malformed")],
)  # fmt: skip
def test_an_answer_that_reached_the_limit_is_marked(
    content: str | None, calls: list[tuple[str, Any]] | None, kind: str
) -> None:
    body = completion(content, calls)
    for reason in ("length", "stop"):
        body["choices"][0]["finish_reason"] = reason
        reply, _ = ask(lambda _: (200, {}, body))
        assert (reply.kind, reply.cut) == (kind, reason == "length")
        assert ("a larger --max-new-tokens" in reply.reason) is (reply.cut and not content and not calls)
        assert Reply.from_dict(reply.to_dict()).cut == reply.cut


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_not_repeated(status: int) -> None:
    reply, requests = ask(
        lambda body: (status, {"Location": "http://127.0.0.1:1/"}, {"error": {"message": "no such model"}})
    )
    assert (reply.kind, len(requests)) == ("failed", 1) and f"HTTP {status}" in reply.reason


def test_a_slow_server_is_given_up_and_nobody_there_too() -> None:
    release = threading.Event()

    def slow(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        release.wait(30.0)
        return 200, {}, completion("late")

    with serving(slow) as (url, _):
        start = time.monotonic()
        patience = Patience(timeout_seconds=0.2, attempts=2, pause_seconds=0.01)
        reply = Endpoint(url, "m", max_new_tokens=5, slots=1, patience=patience).ask(PROMPT)
        assert reply.kind == "failed" and "timed out" in reply.reason and time.monotonic() - start < 15.0
        release.set()
    assert endpoint(url).ask(PROMPT).kind == "failed"


def test_all_cases_are_answered_whatever_becomes_of_some() -> None:
    def moody(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        asked = body["messages"][0]["content"]
        return (500, {}, b"") if "Lima" in asked else (200, {}, completion(asked))

    cases: list[Case] = cases_of(map(tiny.conversation, range(30)))
    kept: dict[int, Reply] = {}
    with serving(moody) as (url, _):
        endpoint(url).answer(cases, kept.__setitem__)
    assert sorted(kept) == list(range(len(cases)))
    for index, case in enumerate(cases):
        question = case.prompt.messages[0].content
        assert kept[index].kind == ("failed" if "Lima" in question else "text")
        assert kept[index].text == ("" if "Lima" in question else question)


def test_a_hopeless_server_ends_the_run() -> None:
    kept: dict[int, Reply] = {}
    words = rf"none of the first {HOPELESS_AFTER} cases: HTTP 402 .*no credit"
    with serving(lambda body: (402, {}, b"no credit")) as (url, _), pytest.raises(CallamaError, match=words):
        endpoint(url).answer(cases_of(map(tiny.conversation, range(40))), kept.__setitem__)
    assert len(kept) == HOPELESS_AFTER


def test_a_hopeless_server_ends_a_run_of_many_small_calls() -> None:
    cases, kept = cases_of(map(tiny.conversation, range(40))), 0

    def keep(index: int, reply: Reply) -> None:
        nonlocal kept
        kept += 1

    words = rf"none of the first {HOPELESS_AFTER} cases: HTTP 402"
    with serving(lambda body: (402, {}, b"")) as (url, _), pytest.raises(CallamaError, match=words):
        model = endpoint(url)
        for start in range(0, len(cases), 3):
            model.answer(cases[start : start + 3], keep)
    assert kept == HOPELESS_AFTER


@pytest.mark.parametrize("status", [401, 402])
def test_a_server_that_answered_once_is_not_hopeless(status: int) -> None:
    cases = cases_of(map(tiny.conversation, range(40)))
    kept: dict[int, Reply] = {}
    answers = chain([(200, {}, completion("Warm."))], repeat((status, {}, b"")))
    with serving(lambda body: next(answers)) as (url, _):
        model = endpoint(url)
        model.answer(cases[:1], kept.__setitem__)
        model.answer(cases, kept.__setitem__)
    assert len(kept) == len(cases) > HOPELESS_AFTER and {reply.kind for reply in kept.values()} == {"failed"}


def test_a_wrong_key_ends_the_run_at_once() -> None:
    kept: dict[int, Reply] = {}
    refused = pytest.raises(CallamaError, match=r"refuses every question: HTTP 401 .*who are you")
    with serving(lambda body: (401, {}, b"who are you")) as (url, requests), refused:
        endpoint(url).answer(cases_of(map(tiny.conversation, range(40))), kept.__setitem__)
    assert len(requests) <= 6


def test_nobody_waits_for_a_server_that_hangs_once_the_run_is_stopped() -> None:
    stop, release = threading.Event(), threading.Event()

    def hangs(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        stop.set()
        release.wait(30)
        return 200, {}, completion("late")

    with serving(hangs) as (url, _):
        start = time.monotonic()
        reply = Endpoint(url, "m", max_new_tokens=5, slots=1).ask(PROMPT, stop)
        took = time.monotonic() - start
        release.set()
    assert reply.kind == "failed"
    assert took < 5


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "http://", "http://[::1"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(UsageError, match="expected one such as http"):
        endpoint(url)


def test_a_key_from_a_file_loses_its_line_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLAMA_API_KEY", "sesame\r\n")
    reply, requests = ask(says("Warm."))
    assert reply.kind == "text" and requests[0]["headers"]["Authorization"] == "Bearer sesame"


@pytest.mark.parametrize("key", ["sesame\nX: 1", "sesame\x1b", "sesame\u20ac", "sesame\n sesame"])
def test_a_key_that_is_none_is_refused_and_not_quoted(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("CALLAMA_API_KEY", key)
    with pytest.raises(UsageError, match="CALLAMA_API_KEY holds characters") as error:
        endpoint("http://localhost/v1")
    assert "sesame" not in str(error.value)


def test_a_name_server_that_is_away_for_a_moment_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up, failures = socket.getaddrinfo, iter(range(2))

    def sometimes(*args: Any, **more: Any) -> Any:
        if next(failures, None) is not None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(*args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", sometimes)
    reply, _ = ask(says("Hi."))
    assert reply.kind == "text"
