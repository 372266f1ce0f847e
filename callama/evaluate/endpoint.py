"""Any OpenAI-compatible server as the model under test, over chat completions with tools.

A server that is slow, refuses, limits its rate or sends garbage is asked again a few times, with
growing pauses, and then counted as failed: never as an abstention, which it could win by. One that
fails from the first case on ends the run, one that is not there at once, because no figure would mean anything.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from callama.common.errors import CallamaError, UsageError
from callama.common.pace import Pace
from callama.contract.jsontext import check_json, dumps, loads_strict
from callama.contract.messages import Conversation, ToolCall
from callama.evaluate.cases import Case
from callama.evaluate.reply import Reply
from callama.evaluate.usage import Usage

KEY_VARIABLE = "CALLAMA_API_KEY"
# What an evaluation allows for an answer: servers are fast, and how many tokens theirs makes of a call is not known.
ENDPOINT_TOKENS = 1024
MAX_ANSWER_BYTES = 4 << 20
MAX_PAUSE_SECONDS = 60.0
HOPELESS_AFTER = 20
_AGAIN = {408, 409, 425, 429}
# A wrong key, or nothing at this address or under this name: no question will fare better.
_FOR_GOOD = {401, 404}
# Nothing listens there, or the host has no address.
_NOBODY = (ConnectionRefusedError, socket.gaierror)
_STOP_SECONDS = 0.1
# The longest answer's name: every server knows the first; OpenAI's newer models refuse it and name the second.
_LIMIT, _NEWER_LIMIT = "max_tokens", "max_completion_tokens"
# The same models take no temperature but their own.
_NO_TEMPERATURE = re.compile(r"HTTP (?:400|422)\b(?=.*temperature)(?=.*support)", re.IGNORECASE)
_FOREIGN_CHAR = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for: seconds a request, requests a case, seconds before the second one
    (each pause is twice the last)."""

    timeout_seconds: float = 120.0
    attempts: int = 4
    pause_seconds: float = 1.0


class _AgainError(Exception):
    """Worth another attempt, after the pause that the server asked for, if it did."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        """A redirect would turn the question into a GET and could take the key elsewhere."""


class Endpoint:
    """A model behind ``URL/chat/completions``; ``URL`` ends in ``/v1`` with most servers."""

    def __init__(
        self,
        url: str,
        name: str,
        *,
        max_new_tokens: int,
        slots: int,
        patience: Patience | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Asks nothing yet. A key is taken from the environment's ``CALLAMA_API_KEY``.

        Raises:
            UsageError: the address is not one of http or https, or the key cannot stand in a header.
        """
        if not _is_address(url):
            raise UsageError(f"{url!r} is no address of a server; expected one such as http://localhost:8000/v1")
        # Keys that are read from files end in a line break. The library's own complaint would quote the key.
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UsageError(f"{KEY_VARIABLE} holds characters that no key has; expected printable ASCII on one line")
        self.url, self.name = url.rstrip("/") + "/chat/completions", name
        self.max_new_tokens, self.slots, self.patience = max_new_tokens, slots, patience or Patience()
        self.pace, self.usage = pace or Pace(), Usage()
        self._limit = _LIMIT
        self.temperature: float | None = 0.0  # None: the server decides, because it takes none
        self.refusal = ""  # why no question is answered at all, once that is known
        self._reached = False  # whether the server ever said anything
        # Over all calls of ``answer``: a dialogue's suite makes one for each step.
        self._answered, self._failed = 0, 0
        self._opener = urllib.request.build_opener(_NoRedirect)

    @property
    def identity(self) -> dict[str, Any]:
        """Address, name and limits; what weights stand behind it, only its owner knows."""
        return {"endpoint": self.url, "model": self.name, "max_new_tokens": self.max_new_tokens}

    def close(self) -> None:
        """Nothing is held between questions."""

    def answer(self, cases: Sequence[Case], keep: Callable[[int, Reply], None]) -> None:
        """Asks about all cases, ``slots`` at a time.

        Raises:
            CallamaError: not one of the first cases of this call and earlier ones was answered, or the server
                refuses the key, the address or the model's name, or none is there.
        """
        stop = threading.Event()
        pool, waiting = ThreadPoolExecutor(self.slots), iter(range(len(cases)))
        running: dict[Future[Reply], int] = {}
        try:
            while True:
                while len(running) < self.slots and (index := next(waiting, None)) is not None:
                    running[pool.submit(self.ask, cases[index].prompt, stop)] = index
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    reply = future.result()
                    keep(running.pop(future), reply)
                    self._count(reply)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _count(self, reply: Reply) -> None:
        if reply.kind != "failed":
            self._answered += 1
            return
        self._failed += 1
        if self._answered:
            return
        if self.refusal:
            raise CallamaError(f"{self.url} {self.refusal}")
        if self._failed >= HOPELESS_AFTER:
            raise CallamaError(f"{self.url} answered none of the first {self._failed} cases: {reply.reason}")

    def ask(self, conversation: Conversation, stop: threading.Event | None = None) -> Reply:
        """One answer, after as many attempts as it takes and ``patience`` allows; a failure soon after ``stop`` is
        set, whatever the server does. Never raises."""
        stop, names = stop or threading.Event(), _wire_names(conversation)
        reason, pause = "", self.patience.pause_seconds
        for attempt in range(self.patience.attempts):
            try:
                data = self._completion(conversation, names, stop)
                self.usage.add(data)
                return _read_answer(data, {wire: name for name, wire in names.items()})
            except _AgainError as error:
                reason = str(error)
                if attempt + 1 < self.patience.attempts and stop.wait(min(max(pause, error.pause), MAX_PAUSE_SECONDS)):
                    break
                pause *= 2
            except CallamaError as error:
                return Reply.failed(str(error))
        return Reply.failed(f"{reason}, after {self.patience.attempts} attempts")

    def _completion(self, conversation: Conversation, names: dict[str, str], stop: threading.Event) -> bytes:
        """The response's bytes; from a server that refuses a setting by name, without it or under its newer name.

        Raises:
            _AgainError, CallamaError: see ``_posted``.
        """
        while True:
            limit, temperature = self._limit, self.temperature
            self.pace.wait(stop)
            try:
                return self._posted(dumps(self._body(conversation, names, limit, temperature)).encode(), stop)
            except CallamaError as error:
                said = str(error)
            if limit == _LIMIT and _LIMIT in said and _NEWER_LIMIT in said:
                self._limit = _NEWER_LIMIT
            elif temperature is not None and _NO_TEMPERATURE.match(said):
                self.temperature = None
            else:
                raise CallamaError(said)

    def _body(
        self, conversation: Conversation, names: dict[str, str], limit: str, temperature: float | None
    ) -> dict[str, Any]:
        messages = [message.to_dict() for message in conversation.messages]
        for message in messages:
            for call in message.get("tool_calls", ()):
                function = call["function"]
                function["arguments"] = dumps(function["arguments"])
                function["name"] = names.get(function["name"], function["name"])
        body: dict[str, Any] = {"model": self.name, "messages": messages, limit: self.max_new_tokens}
        if temperature is not None:
            body["temperature"] = temperature
        if conversation.tools:
            body["tools"] = [tool.to_dict() for tool in conversation.tools]
            for tool in body["tools"]:
                tool["function"]["name"] = names[tool["function"]["name"]]
        return body

    def _posted(self, body: bytes, stop: threading.Event) -> bytes:
        """``_post``, in a thread that is left to itself when ``stop`` is set or the time is up: nothing else ends a
        wait for a server that sends a byte of its headers now and then.

        Raises:
            _AgainError: see ``_post``, or the time is up. CallamaError: too, or nobody waits any longer.
        """
        came: Future[bytes] = Future()
        deadline = time.monotonic() + self.patience.timeout_seconds

        def work() -> None:
            try:
                came.set_result(self._post(body, deadline))
            except BaseException as error:
                came.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        while not stop.is_set():
            left = max(0.0, deadline - time.monotonic())
            if wait((came,), min(left, _STOP_SECONDS)).done:
                return came.result()
            if not left:
                raise _AgainError("no answer: timed out")
        raise CallamaError("nobody waits for the answer any longer")

    def _post(self, body: bytes, deadline: float) -> bytes:
        """The response's bytes; none are read any more behind ``deadline``.

        Raises:
            _AgainError: nothing usable came, and it may another time. CallamaError: the request was refused.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "callama"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, body, headers)
        try:
            with self._opener.open(request, timeout=self.patience.timeout_seconds) as response:
                self._reached = True
                return _read_within(response, deadline)
        except urllib.error.HTTPError as error:
            self._reached, said = True, ""
            # The status alone decides; a body that breaks off says only less about it.
            with suppress(OSError, HTTPException, ValueError), error:
                said = error.read(300).decode(errors="replace")
            reason = f"HTTP {error.code} {error.reason}: {' '.join(said.split())}"
            if error.code in _AGAIN or error.code >= 500:
                raise _AgainError(reason, _seconds(error.headers.get("Retry-After"))) from None
            if error.code in _FOR_GOOD:
                self.refusal = f"refuses every question: {reason}"
            raise CallamaError(reason) from None
        except (OSError, HTTPException, ValueError) as error:
            cause = getattr(error, "reason", None) or error
            # A server that was there a moment ago may come back; one that never was is an address that is wrong.
            for_now = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN
            if isinstance(cause, _NOBODY) and not for_now and not self._reached:
                self.refusal = f"cannot be reached: {cause}; start the server there, or correct the address"
                raise CallamaError(f"no answer: {cause!r}") from None
            raise _AgainError(f"no answer: {cause!r}") from None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that do not match
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _read_within(response: Any, deadline: float) -> bytes:
    """All of a response. A socket's timeout restarts with every byte, so a deadline holds for the whole."""
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise _AgainError(f"an answer of more than {MAX_ANSWER_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise _AgainError("no answer: timed out while it came in")
    return b"".join(parts)


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0


def _wire_names(conversation: Conversation) -> dict[str, str]:
    """Tool names as OpenAI's API takes them (no dots); different names stay different."""
    out: dict[str, str] = {}
    for tool in conversation.tools:
        wire, number = _FOREIGN_CHAR.sub("_", tool.name), 2
        while wire in out.values():
            wire, number = f"{_FOREIGN_CHAR.sub('_', tool.name)[:60]}_{number}", number + 1
        out[tool.name] = wire
    return out


def _read_answer(body: bytes, names: dict[str, str]) -> Reply:
    """A completion's first choice.

    Raises:
        _AgainError: it is none.
    """
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        message = choice["message"]
        content, raw = _joined(message.get("content")), message.get("tool_calls") or []
        # Servers that leave out what is empty do so with the arguments of functions that take none.
        functions = [(call["function"]["name"], call["function"].get("arguments")) for call in raw]
        check_json(message)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, CallamaError):
        raise _AgainError(f"not a chat completion: {body[:120]!r}") from None
    # Gateways say in this way that the model behind them failed, or was stopped, in the middle of its answer.
    if data.get("error") or choice.get("error") or choice.get("finish_reason") in ("error", "content_filter"):
        raise _AgainError(f"an answer that broke off: {body[:120]!r}")
    cut = choice.get("finish_reason") == "length"
    if not isinstance(content, str | None):
        raise _AgainError(f"not a chat completion: content is a {type(content).__name__}")
    if not functions:
        # Servers that swallow a call which they cannot parse send nothing at all; that is no abstention.
        text = content or message.get("refusal") or ""
        if not isinstance(text, str):
            raise _AgainError(f"not a chat completion: refusal is a {type(text).__name__}")
        return Reply.read(text, cut) if text or cut else Reply("malformed", "", (), "an empty message")
    text = dumps([{"name": name, "arguments": arguments} for name, arguments in functions])
    calls = []
    for index, (name, arguments) in enumerate(functions):
        try:
            if arguments is None or (isinstance(arguments, str) and arguments.strip() in ("", "null")):
                arguments = {}
            value = loads_strict(arguments) if isinstance(arguments, str) else arguments
        except CallamaError as error:
            return Reply("malformed", text, (), f"arguments of {name}: {error}", cut)
        if not isinstance(value, dict) or not isinstance(name, str):
            return Reply("malformed", text, (), f"arguments of {name} are no object", cut)
        calls.append(ToolCall(names.get(name, name), value, f"call_{index}"))
    return Reply("call", text, tuple(calls), cut=cut)


def _joined(content: Any) -> Any:
    """The text of a list of parts; what a model thought stands in parts of another type. All else as it is."""
    if not isinstance(content, list):
        return content
    return "".join(part["text"] for part in content if part["type"] != "thinking")
