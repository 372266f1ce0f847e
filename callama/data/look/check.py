"""The round-trip contract over a whole data set: what training sees reads back as what was meant.

Conversations: the turns parse back to the conversation, and the supervised tokens spell the turns.
Built sets: each supervised answer parses, and rendering what was parsed gives the same tokens with
the same kinds again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from callama.common.errors import CallamaError
from callama.common.parallel import ordered_map
from callama.common.progress import Meter
from callama.common.terminal import visible
from callama.contract import tool_uses
from callama.contract.messages import Conversation, Message, ToolCall, link_results
from callama.contract.spans import Kind
from callama.contract.turns import parse_turns, render_turns
from callama.data.chunk import CHUNK, Chunk, Settings, chunks, renderer_of
from callama.data.dataset import Dataset, Example
from callama.data.example import answer_kind, round_trip_fault
from callama.data.look.runs import Run, runs_of
from callama.data.look.source import CONVERSATIONS, Source
from callama.data.read import conversation_of
from callama.data.records import Scan
from callama.text.render import Renderer


class Offender(NamedTuple):
    """A record that breaks the contract: where it stands, why, and its text in runs."""

    side: str
    record: int
    fault: str
    runs: list[Run]


@dataclass
class Checked:
    """Counts of a check; ``answers`` by kind. ``first`` is the first offender."""

    conversations: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    offenders: int = 0
    first: Offender | None = None

    def add(self, other: Checked) -> None:
        """Joins the counts of later records."""
        self.conversations += other.conversations
        self.answers.update(other.answers)
        self.offenders += other.offenders
        self.first = self.first or other.first

    def to_dict(self) -> dict[str, Any]:
        """The counts, and where the first offender stands."""
        first = self.first and {"side": self.first.side, "record": self.first.record, "fault": self.first.fault}
        counts = {"conversations": self.conversations, "answers": dict(sorted(self.answers.items()))}
        return {**counts, "offenders": self.offenders, "first": first}

    def note(self, offender: Offender) -> None:
        """Counts a record that broke the contract."""
        self.offenders += 1
        self.first = self.first or offender


class _Part(NamedTuple):
    """Rows of a built file that one process checks."""

    side: str
    file: Path
    rows: range


def check(source: Source, workers: int = 1) -> Checked:
    """Checks every record of a source.

    Raises:
        CallamaError: a record is not a conversation.
    """
    total = Checked()
    with Meter(f"checking {source.path.name}", None, "conversations") as meter:
        for done in _results(source, workers):
            total.add(done)
            meter.advance(done.conversations, f"{total.offenders:,} broken")
    return total


def _results(source: Source, workers: int) -> Iterator[Checked]:
    if not source.built:
        work = chunks([(source.path, Scan(source.path))])
        yield from ordered_map(partial(_check_conversations, source.settings), work, workers)
        return
    parts = (
        _Part(side, file, range(start, min(start + CHUNK, rows)))
        for side, file in source.sides.items()
        for rows in [len(Dataset(file))]
        for start in range(0, rows, CHUNK)
    )
    yield from ordered_map(partial(_check_rows, source.settings), parts, workers)


def _check_conversations(settings: Settings, chunk: Chunk) -> Checked:
    renderer, out = renderer_of(settings.tokenizer_file), Checked()
    for number, record in enumerate(chunk.records, chunk.start):
        conversation = conversation_of(chunk.file, record)
        out.conversations += 1
        out.answers.update(answer_kind(m) for m in conversation.messages if m.role == "assistant")
        if fault := conversation_fault(conversation, renderer):
            out.note(Offender(CONVERSATIONS, number, fault, conversation_runs(conversation, renderer)))
    return out


def conversation_fault(conversation: Conversation, renderer: Renderer) -> str:
    """Why a conversation does not survive its rendering; empty where it does."""
    try:
        turns = render_turns(conversation)
        rendered = renderer.conversation(conversation)
    except CallamaError as error:
        return f"cannot be rendered: {error}"
    try:
        read = parse_turns(turns, conversation.tools)
    except CallamaError as error:
        return f"does not read back: {error}"
    meant = link_results([replace(m, tool_call_id="", tool_calls=_without_ids(m)) for m in conversation.messages])
    for index, (one, other) in enumerate(zip(meant, read.messages, strict=False)):
        if one != other:
            return f"message {index} reads back as {str(other.to_dict())[:200]}"
    if len(meant) != len(read.messages):
        return f"{len(meant)} messages read back as {len(read.messages)}"
    said = [turn.text for turn in turns if turn.role == "assistant"]
    spelled = [renderer.tokenizer.decode(rendered.ids[start : end - 1]) for start, end in rendered.answers]
    if said != spelled:
        return "the supervised tokens do not spell the answers"
    return round_trip_fault(conversation, rendered, renderer) or ""


def conversation_runs(conversation: Conversation, renderer: Renderer) -> list[Run]:
    """A conversation's tokens in runs; its plain text where it cannot be rendered."""
    try:
        rendered = renderer.conversation(conversation)
    except CallamaError:
        said = "\n".join(f"{m.role}: {m.content or [c.name for c in m.tool_calls]}" for m in conversation.messages)
        return [Run(visible(said), Kind.PROMPT, False)]
    return runs_of(rendered.ids, rendered.kinds, rendered.supervised(), renderer.tokenizer)


def _without_ids(message: Message) -> tuple[ToolCall, ...]:
    return tuple(replace(call, id="") for call in message.tool_calls)


def _check_rows(settings: Settings, part: _Part) -> Checked:
    renderer, out, data = renderer_of(settings.tokenizer_file), Checked(), Dataset(part.file)
    for index in part.rows:
        example = data[index]
        out.conversations += 1
        out.answers.update(example.answers)
        if fault := example_fault(example, renderer):
            runs = runs_of(example.input_ids, example.kinds, example.supervised, renderer.tokenizer)
            out.note(Offender(part.side, index, fault, runs))
    return out


def example_fault(example: Example, renderer: Renderer) -> str:
    """Why a built row's answers are not what a conversation of its columns renders to; empty where they are."""
    ids, kinds = example.input_ids.tolist(), example.kinds.tolist()
    end_id = renderer.tokenizer.special(renderer.markup.end)
    if any(trained and kind == Kind.PROMPT for trained, kind in zip(example.supervised, kinds, strict=True)):
        return "a token of the prompt is supervised"
    found: list[str] = []
    at = 0
    for said, group in groupby(kinds, key=lambda kind: kind != Kind.PROMPT):
        start, at = at, at + len(list(group))
        if not said:
            continue
        where = f"answer {len(found)} (tokens {start} to {at - 1})"
        if ids[at - 1] != end_id or kinds[at - 1] != Kind.END_OF_TURN:
            return f"{where} does not end with {renderer.markup.end}"
        if len(set(example.supervised[start:at].tolist())) > 1:
            return f"{where} is supervised in part"
        answer = tool_uses.parse_answer(renderer.tokenizer.decode(ids[start : at - 1]))
        if answer.kind == "malformed":
            return f"{where} does not parse: {answer.reason}"
        if unknown := {call.name for call in answer.calls} - set(example.functions):
            return f"{where} calls {sorted(unknown)[0]}, which the row does not list"
        message = Message("assistant", answer.text or None, answer.calls)
        again = renderer.answer(tool_uses.answer_segments(message))
        if again != (ids[start : at - 1], kinds[start : at - 1]):
            return f"{where} is rendered to other tokens than these"
        found.append(answer_kind(message))
    if tuple(found) != example.answers:
        return f"the answers are {found}, the row says {list(example.answers)}"
    return "" if example.supervised.any() else "nothing is supervised"
