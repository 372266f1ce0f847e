"""BFCL's multi-turn categories: whole dialogues with simulated services, judged by what the calls did.

As many dialogues go forward side by side as the model answers at a time, one answer each: it answers them in batches
and keeps what it has read of each until its next turn. What the services say comes from the checker's process, which
does a dialogue's calls anew at each step and keeps nothing. The flow is the official run's: calls are executed until
the model says text, at most 20 times a turn; functions held back appear with a fixed sentence of the user's.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from callama.contract.jsontext import canonical_result, dumps
from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.contract.tool_uses import parse_answer
from callama.evaluate.bfcl.checker import Checker, check
from callama.evaluate.bfcl.wheel import REQUIREMENT, SHA256, read_lines
from callama.evaluate.cases import Case
from callama.evaluate.model import Model
from callama.evaluate.reply import Reply
from callama.evaluate.score import Outcome, score
from callama.evaluate.suites import Keep, Suite

CATEGORIES = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
MAX_STEPS = 20
HINT = " Note that the provided function is in Python 3 syntax."
MORE_FUNCTIONS = "I have updated some more functions you can choose from. What about now?"
# What stands in the history for a broken call, which no rendering could hold.
BROKEN = "(The call could not be read.)"
_DOCUMENTS = {
    "GorillaFileSystem": "gorilla_file_system", "MathAPI": "math_api", "MessageAPI": "message_api",
    "TwitterAPI": "posting_api", "TicketAPI": "ticket_api", "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking", "VehicleControlAPI": "vehicle_control",
}  # fmt: skip


@dataclass(frozen=True)
class Dialogue:
    """One record: what the user says in each turn, the functions that come with it, and the true calls."""

    entry: dict[str, Any]
    turns: list[tuple[Message, ...]]
    tools: dict[int, tuple[Tool, ...]]
    answer: list[list[str]]
    case: Case


@dataclass
class _Running:
    """A dialogue on its way: its ``turn``, and the ``steps`` that this turn has taken."""

    index: int
    dialogue: Dialogue
    messages: list[Message] = field(default_factory=list)
    tools: tuple[Tool, ...] = ()
    turn: int = -1
    steps: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    broken: str = ""
    cut: bool = False

    def next_turn(self) -> bool:
        """Lets the user speak; False when all turns are over."""
        self.turn, self.steps = self.turn + 1, 0
        if self.turn == len(self.dialogue.turns):
            return False
        self.tools += self.dialogue.tools.get(self.turn, ())
        self.messages += self.dialogue.turns[self.turn]
        return True

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All calls so far."""
        return tuple(call for message in self.messages for call in message.tool_calls)

    def hear(self, reply: Reply) -> bool:
        """Takes the model's answer; whether there are calls to execute. If not, the turn is over."""
        self.cut = self.cut or reply.cut
        if reply.kind != "call":
            self.log.append({"turn": self.turn, "text": reply.text})
            self.broken = self.broken or (reply.reason if reply.kind == "malformed" else "")
            text = reply.spoken if reply.spoken.strip() else " "
            self.messages.append(Message("assistant", BROKEN if reply.kind == "malformed" else text))
            return False
        number, answer = len(self.calls), parse_answer(reply.spoken)
        calls = tuple(ToolCall(c.name, c.arguments, f"call_{number + i}") for i, c in enumerate(reply.calls))
        self.messages.append(Message("assistant", answer.text or None if answer.kind == "call" else None, calls))
        self.steps += 1
        self.log.append({"turn": self.turn, "calls": [{"name": c.name, "arguments": c.arguments} for c in calls]})
        return True

    def result(self, results: Sequence[str]) -> None:
        """Takes what the services say to the calls."""
        self.log[-1]["results"] = list(results)
        calls = self.messages[-1].tool_calls
        self.messages += [
            Message("tool", canonical_result(r), (), c.id) for c, r in zip(calls, results, strict=True)
        ]  # fmt: skip

    def reply(self) -> Reply:
        """The whole dialogue as one answer: its text is one JSON line a step."""
        text = "\n".join(map(dumps, self.log))
        if self.broken:
            return Reply("malformed", text, (), self.broken, self.cut)
        return Reply("call" if self.calls else "text", text, self.calls, cut=self.cut)


@dataclass(frozen=True)
class Talk:
    """Leads dialogues with a model, and has them judged."""

    wheel: Path
    dialogues: dict[str, Dialogue]

    def ask(self, model: Model, cases: Sequence[Case], keep: Keep) -> None:
        """Leads the cases' dialogues to their ends."""
        waiting = [_Running(i, self.dialogues[case.id]) for i, case in enumerate(cases)][::-1]
        running: list[_Running] = []
        with Checker(self.wheel) as checker:
            while waiting or running:
                while waiting and len(running) < model.slots:
                    running.append(waiting.pop())
                    running[-1].next_turn()
                running = self._step(model, running, checker, keep)

    def _step(self, model: Model, running: list[_Running], checker: Checker, keep: Keep) -> list[_Running]:
        """One answer and its results in each dialogue; those that go on."""
        asked = [
            replace(r.dialogue.case, prompt=Conversation(tuple(r.messages), r.tools)) for r in running
        ]  # fmt: skip
        replies: dict[int, Reply] = {}
        model.answer(asked, replies.__setitem__)
        jobs, calling, going = [], [], []
        for i, one in enumerate(running):
            if replies[i].kind == "failed":
                keep(one.index, replies[i])
            elif one.hear(replies[i]):
                calling.append(one)
                steps = [entry["calls"] for entry in one.log if "calls" in entry]
                jobs.append({"kind": "run", "entry": one.dialogue.entry, "steps": steps})
            elif one.next_turn():
                going.append(one)
            else:
                keep(one.index, one.reply())
        for one, answer in zip(calling, checker.check(jobs), strict=True):
            if answer["results"] is None or one.steps > MAX_STEPS:
                one.log.append({"turn": one.turn, "ended": answer.get("error") or f"more than {MAX_STEPS} steps"})
                keep(one.index, one.reply())
            else:
                one.result(answer["results"])
                going.append(one)
        return going

    def settle(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes, with ``exact_call`` and ``error`` as the checker says, and calls held against the functions of
        all turns."""
        out, judged, jobs = list(outcomes), [], []
        for i, outcome in enumerate(outcomes):
            if outcome.reply.kind == "failed":
                continue
            dialogue = self.dialogues[outcome.case.id]
            offered = tuple(tool for turn in dialogue.tools.values() for tool in turn)
            known = score(replace(outcome.case, prompt=replace(outcome.case.prompt, tools=offered)), outcome.reply)
            out[i] = outcome = replace(outcome, schema_valid=known.schema_valid, hallucinated=known.hallucinated)
            if (turns := turns_of(outcome.reply.text, len(dialogue.answer))) is None:
                out[i] = replace(outcome, exact_call=False, error="multi_turn:force_terminated")
            else:
                judged.append(i)
                jobs.append({"kind": "dialogue", "entry": dialogue.entry, "turns": turns, "answer": dialogue.answer})
        for i, verdict in zip(judged, check(self.wheel, jobs), strict=True):
            out[i] = replace(out[i], exact_call=verdict["valid"], error=verdict["error"])
        return out


def turns_of(text: str, count: int) -> list[list[list[dict[str, Any]]]] | None:
    """The calls of a dialogue, by turn and step, from its reply's text; None if it was ended early."""
    turns: list[list[list[dict[str, Any]]]] = [[] for _ in range(count)]
    for entry in map(json.loads, text.split("\n")):
        if "ended" in entry:
            return None
        if "calls" in entry:
            turns[entry["turn"]].append(entry["calls"])
    return turns


def load_dialogues(wheel: Path, category: str, limit: int | None) -> Suite:
    """A multi-turn category as a suite, of at most ``limit`` dialogues."""
    file = f"BFCL_v4_{category}.json"
    answers = {r["id"]: r["ground_truth"] for r in read_lines(wheel, f"bfcl_eval/data/possible_answer/{file}")}
    records = read_lines(wheel, f"bfcl_eval/data/{file}")[:limit]
    documents = {
        name: read_lines(wheel, f"bfcl_eval/data/multi_turn_func_doc/{place}.json")
        for name, place in _DOCUMENTS.items()
    }
    found = [_dialogue(record, category, answers[record["id"]], documents) for record in records]
    facts = {"file": file, "source": REQUIREMENT, "sha256": SHA256, "cases": len(found), "broken_records": {},
             "unwinnable": 0}  # fmt: skip
    talk = Talk(wheel, {dialogue.case.id: dialogue for dialogue in found})
    return Suite(f"bfcl:{category}", [d.case for d in found], facts, ask=talk.ask, settle=talk.settle)


def _dialogue(
    record: dict[str, Any], category: str, answer: list[list[str]], documents: dict[str, list[dict[str, Any]]]
) -> Dialogue:
    functions = [function for name in record["involved_classes"] for function in documents[name]]
    held = {int(turn): names for turn, names in record.get("missed_function", {}).items()}
    late = {name for names in held.values() for name in names}
    by_name = {function["name"]: function for function in functions}
    tools = {turn: tuple(Tool.from_dict(by_name[name]) for name in names) for turn, names in held.items()}
    tools[0] = tuple(
        Tool.from_dict({**f, "description": f["description"] + HINT}) for f in functions if f["name"] not in late
    )
    turns = [
        Conversation.from_dict({"messages": said or [{"role": "user", "content": MORE_FUNCTIONS}]}).messages
        for said in record["question"]
    ]
    wanted = tuple(_read_call(call, by_name) for turn in answer for call in turn)
    case = Case(
        Conversation(turns[0], tools[0]), Message("assistant", None, wanted), category, record["id"], by_effect=True
    )  # fmt: skip
    entry = {key: record[key] for key in ("id", "initial_config", "involved_classes")}
    return Dialogue(entry, turns, tools, answer, case)


def _read_call(text: str, functions: dict[str, dict[str, Any]]) -> ToolCall:
    """A true call as data: literals in a call of a plain name, by position or by name."""
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name), text
    names = functions[node.func.id]["parameters"]["properties"]
    arguments = dict(zip(names, map(ast.literal_eval, node.args), strict=False))
    return ToolCall(node.func.id, arguments | {w.arg or "": ast.literal_eval(w.value) for w in node.keywords})
