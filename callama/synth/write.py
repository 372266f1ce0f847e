"""Data sets from the engine: a file to train and validate on, and a test set about held-out tools. Processes
make groups of conversations by their numbers, so that how many there are changes nothing but the time. A request
that was written before is left out while there are others.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from callama.common import progress
from callama.common.errors import UsageError
from callama.common.files import atomic_folder
from callama.common.parallel import ordered_map
from callama.common.progress import Meter
from callama.contract.messages import Conversation, dump_line
from callama.synth.catalogue import FOLDER, Side, load_catalogue
from callama.synth.engine import GROUP_SIZE, group
from callama.synth.scenarios import shares
from callama.synth.stage import NoSceneError

TRAIN, HELD_OUT = "train.jsonl", "held_out.jsonl"
_CHUNK = 600  # conversations that a worker makes for one part of a file
_SPARE = 48  # and as many more, in place of those whose request was written before
_SEEN_BITS = 1 << 27  # 16 MiB, however long the file: a few new requests are taken for repeats, never the reverse


@dataclass(frozen=True)
class _Chunk:
    """The part ``number`` of one side, of which ``count`` conversations are wanted."""

    side: Side
    seed: int
    number: int
    count: int
    weights: Mapping[str, float]
    folder: Path
    split: str = ""


@dataclass(frozen=True)
class _Line:
    """A conversation as it is written; ``said`` is a number for the first request, or, where no call with
    arguments is asked for, for all that is said: greetings and refusals are ``few`` by nature."""

    scenario: str
    text: str
    said: int
    few: bool


def _lines(chunk: _Chunk) -> list[_Line]:
    size = GROUP_SIZE[chunk.side]
    groups = (_CHUNK + _SPARE) // size
    out: list[_Line] = []
    for number in range(chunk.number * groups, (chunk.number + 1) * groups):
        for made in group(number, chunk.seed, side=chunk.side, weights=chunk.weights, folder=chunk.folder):
            labels = {**made.labels, "split": chunk.split} if chunk.split else made.labels
            line = dump_line(replace(made, labels=labels))
            out.append(_Line(str(made.labels["scenario"]), line, *_said(made)))
        if len(out) >= chunk.count + _SPARE:
            break
    return out


def _said(made: Conversation) -> tuple[int, bool]:
    messages = [m for m in made.messages if m.role != "system"]
    few = not any(call.arguments for call in messages[1].tool_calls)
    text = "\n".join(m.content or "" for m in (messages if few else messages[:1]))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()), few


def _fresh(lines: Sequence[_Line], count: int, seen: bytearray) -> list[_Line]:
    """``count`` of these lines, in order: those that say something new, and repeats where these do not suffice. What
    is said in few ways makes room only for its own scenario, or a long file would have ever less of it."""
    chosen: list[int] = []
    repeats: list[int] = []
    for i, line in enumerate(lines[:count]):
        (chosen if _is_new(line, seen) else repeats).append(i)
    spare = list(range(count, len(lines)))
    for i in repeats:
        fitting = (j for j in spare if not lines[i].few or lines[j].scenario == lines[i].scenario)
        other = next((j for j in fitting if _is_new(lines[j], seen)), i)
        chosen.append(other)
        spare = [j for j in spare if j != other]
    return [lines[i] for i in sorted(chosen)]


def _is_new(line: _Line, seen: bytearray) -> bool:
    """Whether this was not said before; from now on it was."""
    place, bit = divmod(line.said % _SEEN_BITS, 8)
    before = seen[place] >> bit & 1
    seen[place] |= 1 << bit
    return not before


def _chunks(count: int, chunk: _Chunk) -> Iterator[_Chunk]:
    for number, start in enumerate(range(0, count, _CHUNK)):
        yield replace(chunk, number=number, count=min(_CHUNK, count - start))


def _each(count: int, seed: int, scenarios: Iterable[str], folder: Path) -> list[_Chunk]:
    """Chunks of the held-out side, of one scenario each; those that its tools cannot play are left out, with a note."""
    out: list[_Chunk] = []
    for name in scenarios:
        alone = _Chunk("held_out", seed, 0, 0, {name: 1.0}, folder)
        if _can_play(alone):
            # Numbered on from scenario to scenario, so that not all are played with the same tools.
            out += [replace(chunk, number=len(out) + i) for i, chunk in enumerate(_chunks(count, alone))]
        else:
            _note(f"no tool of the side held_out can play {name}: left out there")
    return out


def _can_play(chunk: _Chunk) -> bool:
    try:
        group(0, chunk.seed, side=chunk.side, weights=chunk.weights, folder=chunk.folder)
    except NoSceneError:
        return False
    return True


def _note(text: str) -> None:
    progress.console.print(f"note: {text}", markup=False)


def write_sets(
    out: Path,
    count: int,
    held_out_count: int,
    *,
    val_ratio: float,
    seed: int,
    scenarios: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    held_out_each: int | None = None,
    workers: int = 1,
    folder: Path = FOLDER,
) -> dict[str, dict[str, int]]:
    """Writes ``train.jsonl`` (each conversation labelled ``split``: train or validation) and ``held_out.jsonl``;
    returns the number of conversations by file and scenario.

    Args:
        out: the folder.
        count: conversations to train and validate on, ``val_ratio`` of them for validation.
        held_out_count: conversations about held-out tools.
        val_ratio: between 0 and 1.
        seed: of the random choices.
        scenarios: names to draw from; all by default.
        weights: how often scenarios occur, in place of their default weights.
        held_out_each: so many conversations of every scenario that the held-out tools can play, one scenario
            behind the other, in place of ``held_out_count``.
        workers: processes; the files are the same for any number.
        folder: the catalogue.

    Raises:
        UsageError: an unknown scenario, a negative weight or a negative count.
        CallamaError: the catalogue is damaged, or no tool of any side that is wanted can play these scenarios.
    """
    chosen = shares(scenarios, weights)
    if min(count, held_out_count) < 0:
        raise UsageError(f"the count must not be negative, found {min(count, held_out_count)}")
    load_catalogue(folder)
    validation = round(count * val_ratio)

    def part(side: Side, number: int, split: str = "") -> list[_Chunk]:
        whole = _Chunk(side, seed, 0, 0, chosen, folder, split)
        if number and not _can_play(whole):
            _note(f"no tool of the side {side} can play {', '.join(chosen)}: left out there")
            return []
        return list(_chunks(number, whole))

    held_out = part("held_out", held_out_count) if held_out_each is None else _each(held_out_each, seed, chosen, folder)
    sets = {
        TRAIN: part("train", count - validation, "train") + part("validation", validation, "validation"),
        HELD_OUT: held_out,
    }
    total = sum(chunk.count for chunks in sets.values() for chunk in chunks)
    if not total and max(count, held_out_count, held_out_each or 0):
        raise NoSceneError(f"no tool of any side that is wanted can play {', '.join(chosen)}")
    report: dict[str, dict[str, int]] = {}
    with (
        atomic_folder(out, {"kind": "conversations", "seed": seed}) as target,
        Meter("writing", total, "conversations") as meter,
    ):
        for name, chunks in sets.items():
            counts: Counter[str] = Counter()
            seen = bytearray(_SEEN_BITS // 8)
            with (target / name).open("w", encoding="utf-8") as file:
                for chunk, lines in zip(chunks, ordered_map(_lines, chunks, workers), strict=True):
                    for line in _fresh(lines, chunk.count, seen):
                        file.write(line.text + "\n")
                        counts[line.scenario] += 1
                    meter.advance(chunk.count)
            report[name] = dict(sorted(counts.items()))
    return report
