"""Validation by answering: the model, as it is now, generates answers of validation conversations.

Questions are cut out of the built data, so they are asked in exactly the tokens that training sees, and
they are scored as ``callama evaluate`` scores. Under ZeRO-3 every process generates every answer, because
a forward pass takes all of them; at other stages they share the questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch

from callama.contract.messages import Conversation, Message
from callama.contract.spans import Kind
from callama.contract.tool_uses import parse_answer
from callama.data.dataset import Dataset, Example
from callama.evaluate.cases import Case
from callama.evaluate.reply import Reply
from callama.evaluate.score import Outcome, score
from callama.generate.engine import Generator
from callama.text.render import Renderer
from callama.text.tokenizer import Tokenizer
from callama.train.config import TrainConfig
from callama.train.engine import Engine
from callama.train.setup import Run

MAX_NEW_TOKENS = 256
SLOTS = 4  # answers side by side; the cache of more is much beside what training leaves free
SHOWN = 8


@dataclass(frozen=True)
class Question:
    """The ids before an answer, of which the last turns are worth ``showing``, and the right answer."""

    prompt: list[int]
    showing: str
    case: Case


@dataclass(frozen=True)
class Answers:
    """How many of the questions of all processes were ``asked``, answered ``right``, wanted a call
    (``calls``), got one that ``parsed`` or was ``exact``, or got a ``malformed`` one; ``outcomes`` are
    those of this process, with their questions."""

    asked: int
    right: int
    calls: int
    parsed: int
    exact: int
    malformed: int
    outcomes: list[tuple[Question, Outcome]]

    @property
    def right_turn(self) -> float:
        """Share of all questions answered with the right calls, or with text where none is wanted."""
        return self.right / max(self.asked, 1)

    def scalars(self) -> dict[str, float]:
        """Every curve by its name in TensorBoard; names as in ``callama evaluate``."""
        out = {"calls/right_turn": self.right_turn, "calls/malformed": self.malformed / max(self.asked, 1)}
        if self.calls:
            out |= {"calls/parse_rate": self.parsed / self.calls, "calls/exact_call": self.exact / self.calls}
        if texts := self.asked - self.calls:
            out["calls/right_abstention"] = (self.right - self.exact) / texts
        return out

    def text(self) -> str:
        """The first conversations with the right and the given answer, as Markdown."""
        return "\n\n---\n\n".join(
            f"**{'right' if outcome.right else 'wrong'}**\n\n{_code(question.showing)}\n\n"
            f"expected:\n\n{_code(_said(question.case.expected))}\n\nanswered:\n\n{_code(outcome.reply.text)}"
            for question, outcome in self.outcomes[:SHOWN]
        )


def _code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])


def _said(message: Message) -> str:
    calls = "\n".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
    return "\n".join(filter(None, (message.content, calls)))


class Questions:
    """The sample of a run; empty where there is no validation, or ``validation.questions`` is 0."""

    def __init__(self, config: TrainConfig, run: Run, engine: Engine) -> None:
        self._model, self._engine = run.model, engine
        self.sample: list[Question] = []
        self._renderer = Renderer(run.tokenizer)
        if run.validation_data is not None and config.validation.questions:
            self.sample = list(_sample(run.validation_data, run.tokenizer, config.validation.questions))
        context = config.model.max_seq_len + MAX_NEW_TOKENS
        self._generator = Generator(run.model, self._renderer.stop_ids, SLOTS, min(context, run.params.max_seq_len))

    def ask(self) -> Answers | None:
        """Lets the model answer, greedily; None where there are no questions."""
        if not self.sample:
            return None
        engine = self._engine
        mine = self.sample if engine.parted else self.sample[engine.rank :: engine.ranks]
        done = self._generator.generate([q.prompt for q in mine], MAX_NEW_TOKENS)
        self._model.train()
        replies = [Reply.read(self._renderer.tokenizer.decode(g.ids)) for g in done]
        outcomes = [score(question.case, reply) for question, reply in zip(mine, replies, strict=True)]
        calls = [o for o in outcomes if o.case.wants_call]
        counts = torch.tensor(
            [
                len(outcomes),
                sum(o.right for o in outcomes),
                len(calls),
                sum(o.reply.kind == "call" for o in calls),
                sum(o.exact_call for o in calls),
                sum(o.reply.kind == "malformed" for o in outcomes),
            ]
        )
        if engine.parted and engine.rank:
            counts.zero_()
        asked, right, wanted, parsed, exact, malformed = engine.total(counts).tolist()
        return Answers(asked, right, wanted, parsed, exact, malformed, list(zip(mine, outcomes, strict=True)))


def _sample(data: Dataset, tokenizer: Tokenizer, count: int) -> Iterator[Question]:
    """At most ``count`` questions, evenly spread; of the n-th conversation with several answers the n-th, round
    and round, so that first and later turns come up."""
    rows = range(len(data)) if len(data) <= count else [i * len(data) // count for i in range(count)]
    several = 0
    for row in rows:
        example = data[row]
        answers = list(_answers(example))
        if answers:
            start, end = answers[several % len(answers)]
            several += len(answers) > 1
            ids = example.input_ids.tolist()
            right = parse_answer(tokenizer.decode(ids[start : end - 1]))
            expected = Message("assistant", right.text or None, right.calls)
            # The tools stand in the ids; nothing of the case but what is expected is asked for.
            case = Case(Conversation((), ()), expected, example.scenario)
            yield Question(ids[:start], tokenizer.decode(ids[example.opening_tokens : start]), case)


def _answers(example: Example) -> Iterator[tuple[int, int]]:
    """Where each of the assistant's turns begins and ends, its stop token included."""
    at = 0
    for said, group in groupby(example.kinds.tolist(), key=lambda kind: kind != Kind.PROMPT):
        start, at = at, at + len(list(group))
        if said and start:
            yield start, at
