"""Conversations to a built data set: split by function, rendered, checked, counted.

Each record is rendered by the renderer that chat and evaluation use, and must survive the round
trip: parsing its supervised tokens gives back the calls and texts that went in. What does not is
kept in ``quarantine.jsonl`` with its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_folder, sha256_file, write_json
from callama.common.progress import Meter
from callama.contract import CONTRACT_VERSION, tool_uses
from callama.contract.messages import Conversation
from callama.contract.spans import Kind
from callama.data.dataset import METADATA, Example, write_examples
from callama.data.read import read_conversations
from callama.data.split import Side, functions_of, split
from callama.text.render import Rendered, Renderer, TrainOn
from callama.text.tokenizer import load_tokenizer

SIDES: tuple[Side, ...] = ("train", "validation")
QUARANTINE = "quarantine.jsonl"


@dataclass
class _Tally:
    """What went to one side."""

    lengths: list[int] = field(default_factory=list)
    kinds: Counter[int] = field(default_factory=Counter)
    supervised: int = 0
    functions: set[str] = field(default_factory=set)
    scenarios: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example) -> None:
        self.lengths.append(len(example.input_ids))
        self.kinds.update(example.kinds.tolist())
        self.supervised += int(example.supervised.sum())
        self.functions.update(example.functions)
        if example.scenario:
            self.scenarios[example.scenario] += 1

    def report(self) -> dict[str, Any]:
        marks = np.percentile(self.lengths, [0, 50, 95, 100]).astype(int).tolist() if self.lengths else [0] * 4
        return {
            "conversations": len(self.lengths),
            "tokens": sum(self.lengths),
            "supervised_tokens": self.supervised,
            "tokens_by_kind": {kind.name.lower(): self.kinds[kind] for kind in Kind},
            "length_tokens": dict(zip(("min", "p50", "p95", "max"), marks, strict=True)),
            "functions": len(self.functions),
            "scenarios": dict(sorted(self.scenarios.items())),
        }


def round_trip_fault(conversation: Conversation, rendered: Rendered, renderer: Renderer) -> str | None:
    """Why parsing the supervised tokens does not give the assistant's messages back; None where it does."""
    said = [m for m in conversation.messages if m.role == "assistant"]
    if len(said) != len(rendered.answers):
        return f"{len(said)} assistant messages became {len(rendered.answers)} answers"
    for message, (start, end) in zip(said, rendered.answers, strict=True):
        answer = tool_uses.parse_answer(renderer.tokenizer.decode(rendered.ids[start : end - 1]))
        wanted = [(c.name, c.arguments) for c in message.tool_calls]
        if [(c.name, c.arguments) for c in answer.calls] != wanted or answer.text != (message.content or ""):
            return f"read back as {answer.kind}: {answer.reason or answer.text[:80]!r}"
    return None


def _example(conversation: Conversation, renderer: Renderer, train_on: TrainOn, max_tokens: int) -> Example:
    """Renders and checks one conversation; a CallamaError carries the reason code before a colon."""
    try:
        rendered = renderer.conversation(conversation)
    except CallamaError as error:
        raise CallamaError(f"unrenderable: {error}") from None
    if len(rendered.ids) > max_tokens:
        raise CallamaError(f"too_long: {len(rendered.ids)} tokens, the limit is {max_tokens}")
    if not rendered.answers:
        raise CallamaError("no_answer: no assistant message to learn from")
    if fault := round_trip_fault(conversation, rendered, renderer):
        raise CallamaError(f"round_trip: {fault}")
    return Example(
        np.asarray(rendered.ids, np.int32),
        np.asarray(rendered.kinds, np.int8),
        np.asarray(rendered.supervised(train_on), np.bool_),
        tuple(sorted(functions_of(conversation))),
        str(conversation.labels.get("scenario", "")),
        opening_tokens=rendered.opening,
    )


def build(
    sources: Sequence[Path],
    tokenizer_file: Path,
    save_dir: Path,
    *,
    val_ratio: float = 0.15,
    seed: int = 3,
    train_on: TrainOn = "all",
    max_tokens: int = 8192,
) -> dict[str, Any]:
    """Builds ``train.arrow``, ``validation.arrow``, ``metadata.json`` and ``quarantine.jsonl``; returns the metadata.

    Raises:
        UsageError: a file is missing or ``val_ratio`` is not in [0, 1).
        CallamaError: a record is not a conversation (file and record named), or nothing is left to train on.
    """
    if not 0 <= val_ratio < 1:
        raise UsageError(f"--val-ratio must be at least 0 and below 1, found {val_ratio}")
    renderer = Renderer(load_tokenizer(tokenizer_file))

    def conversations() -> Iterator[Conversation]:
        for source in sources:
            yield from read_conversations(source)

    division = split(conversations(), val_ratio, seed)
    if not division.sides:
        raise CallamaError(f"{', '.join(map(str, sources))}: no conversations; there is nothing to build")
    tallies = {side: _Tally() for side in SIDES}
    dropped: Counter[str] = Counter()
    facts = {"kind": "built data set", "dialect": tool_uses.NAME, "tokenizer_sha256": renderer.tokenizer.sha256}
    with atomic_folder(save_dir, facts) as folder:
        with (folder / QUARANTINE).open("w", encoding="utf-8") as quarantine:

            def examples(side: Side, meter: Meter) -> Iterator[Example]:
                for index, conversation in enumerate(conversations()):
                    if division.sides[index] == "straddles" and side == "train":
                        meter.advance()
                        _drop(
                            quarantine, dropped, index, "straddles_split: shows functions of both sides", conversation
                        )
                    if division.sides[index] != side:
                        continue
                    meter.advance()
                    try:
                        example = _example(conversation, renderer, train_on, max_tokens)
                    except CallamaError as error:
                        _drop(quarantine, dropped, index, str(error), conversation)
                        continue
                    tallies[side].add(example)
                    yield Example(**{**example.__dict__, "source": index})

            with Meter("building", len(division.sides), "conversations") as meter:
                for side in SIDES:
                    write_examples(folder / f"{side}.arrow", examples(side, meter))
        if not tallies["train"].lengths:
            raise CallamaError(f"no conversation is left to train on; dropped: {dict(dropped)}")
        metadata: dict[str, Any] = {
            "contract_version": CONTRACT_VERSION,
            "dialect": tool_uses.NAME,
            "markup": renderer.markup.name,
            "tokenizer_sha256": renderer.tokenizer.sha256,
            "sources": [{"file": s.name, "sha256": sha256_file(s)} for s in sources],
            "seed": seed,
            "train_on": train_on,
            "max_tokens": max_tokens,
            "read": len(division.sides),
            "dropped": dict(sorted(dropped.items())),
            "split": division.method,
            "functions_on_both_sides": len(tallies["train"].functions & tallies["validation"].functions),
            **{side: tallies[side].report() for side in SIDES},
        }
        write_json(folder / METADATA, metadata)
    return metadata


def _drop(sink: Any, dropped: Counter[str], index: int, reason: str, conversation: Conversation) -> None:
    code, _, detail = reason.partition(": ")
    dropped[code] += 1
    record = {"record": index, "reason": code, "detail": detail, "conversation": conversation.to_dict()}
    sink.write(json.dumps(record) + "\n")
