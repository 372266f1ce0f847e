"""A run of conversations to Arrow rows, the unit of work of one process: what is expensive happens here.

Beside the data set's own columns a row carries what the split and the quarantine need of it, so
that the sources are read once and little but signatures is held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from callama.common.errors import CallamaError
from callama.contract.messages import dump_line
from callama.contract.refused import has_thoughts
from callama.data.dataset import SCHEMA, Example, record_batch
from callama.data.example import beginning, example_of
from callama.data.minhash import NO_SIGNATURES, Signatures, said_text, signatures
from callama.data.read import conversation_of
from callama.data.records import Record, decoded
from callama.data.split import LABEL
from callama.text.render import Renderer, TrainOn
from callama.text.tokenizer import load_tokenizer

CHUNK = 256
_EXTRA = [("label", pa.string()), ("conversation", pa.string())]
CHUNK_SCHEMA = pa.schema([*SCHEMA, *(pa.field(*f) for f in _EXTRA)])


@dataclass(frozen=True)
class Settings:
    """How conversations become examples."""

    tokenizer_file: Path
    train_on: TrainOn
    max_tokens: int


class Chunk(NamedTuple):
    """Records of one file in order; ``start`` is the first one's number among those of all files."""

    start: int
    file: Path
    records: list[Record]


class Drop(NamedTuple):
    """A conversation that cannot be learned from. ``conversation`` is its JSON text."""

    record: int
    reason: str
    detail: str
    conversation: str

    def line(self, file: str = "") -> str:
        """The entry in the quarantine file; ``file`` names the source where there are several."""
        entry = {"file": file} if file else {}
        head = json.dumps({**entry, "record": self.record, "reason": self.reason, "detail": self.detail})
        return f'{head[:-1]}, "conversation": {self.conversation}}}\n'


class Rendered(NamedTuple):
    """What became of a chunk: a record batch of ``CHUNK_SCHEMA``, what was dropped, and the rows' signatures
    (none where a built set was read, which needs none); and of how many rows thoughts were left out."""

    rows: Any
    drops: list[Drop]
    signatures: Signatures = NO_SIGNATURES
    n_without_thoughts: int = 0


def chunks(files: Iterable[tuple[Path, Iterator[Record]]]) -> Iterator[Chunk]:
    """Cuts the records of files into chunks."""
    start = 0
    for file, records in files:
        while taken := list(islice(records, CHUNK)):
            yield Chunk(start, file, taken)
            start += len(taken)


@cache
def renderer_of(tokenizer_file: Path) -> Renderer:
    """The renderer of a tokenizer, loaded once per process."""
    return Renderer(load_tokenizer(tokenizer_file))


def _is_line(raw: str) -> bool:
    """Whether a record's text can stand in a file of lines as it is. In what the reader left aside there may be bytes
    that are not UTF-8, which arrive as lone surrogates."""
    try:
        return bool(raw) and "\n" not in raw and (raw.isascii() or bool(raw.encode()))
    except UnicodeEncodeError:
        return False


def render_chunk(settings: Settings, chunk: Chunk) -> Rendered:
    """Reads, renders, cuts and checks every conversation of a chunk.

    Raises:
        CallamaError: a record is no conversation; file and record are named.
    """
    renderer = renderer_of(settings.tokenizer_file)
    examples: list[Example] = []
    drops: list[Drop] = []
    said: list[str] = []
    extra: list[tuple[str | None, str]] = []
    n_without_thoughts = 0
    for number, record in enumerate(map(decoded, chunk.records), chunk.start):
        conversation = conversation_of(chunk.file, record)
        text = record.raw if _is_line(record.raw) else dump_line(conversation)
        try:
            example = example_of(conversation, renderer, settings.train_on, settings.max_tokens, number)
        except CallamaError as error:
            reason, _, detail = str(error).partition(": ")
            drops.append(Drop(number, reason, detail, text))
            continue
        examples.append(example)
        label = conversation.labels.get(LABEL)
        # What is written decides what repeats what: two that differ only behind the cut are one.
        kept = beginning(conversation, len(example.answers)) if example.cut_tokens else conversation
        said.append(said_text(kept))
        extra.append((label if isinstance(label, str) else None, text))
        n_without_thoughts += any(
            message["role"] == "assistant" and has_thoughts(message) for message in record.value["messages"]
        )
    labels, texts = list(zip(*extra, strict=True)) or [(), ()]
    arrays = [pa.array(values, kind) for values, (_, kind) in zip((labels, texts), _EXTRA, strict=True)]
    rows = pa.record_batch([*record_batch(examples).columns, *arrays], schema=CHUNK_SCHEMA)
    return Rendered(rows, drops, signatures(said), n_without_thoughts)
