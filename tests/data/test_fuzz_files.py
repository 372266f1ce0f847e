"""Files of damaged rows: whatever was done to them, all that was read is kept or quarantined, once.

``test_glaive_fuzz`` looks at single rows; here whole files go through cleaning and back.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callama.data.clean import CleanResult, clean_files
from callama.data.read import read_conversations
from callama.data.work import Rules

RAW = Path(__file__).resolve().parents[3] / "shared" / "data" / "glaive" / "raw_rows.jsonl"
SYSTEM = 'SYSTEM: Help. -\n{"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}\n'
CALL = 'ASSISTANT: <functioncall> {"name": "f", "arguments": \'{"a": "it\'s"}\'} <|endoftext|>'
ROWS: list[Any] = [
    {"system": SYSTEM, "chat": f"USER: a\n\n\n{CALL}\n\n\nFUNCTION RESPONSE: {{}}\n\n\nASSISTANT: b <|endoftext|>\n"},
    {"system": "SYSTEM: Help.\n\n", "chat": "USER: a\n\nASSISTANT: b <|endoftext|>\n\n"},
]
if RAW.is_file():
    ROWS += [json.loads(line) for line in RAW.open(encoding="utf-8")]
NAMES = ["in.json", "in.jsonl", "in.json.gz", "in.jsonl.gz", "in.json.zst", "in.jsonl.zst"]
EVERYTHING = Rules(cut_tails=False, remove_duplicates=False, max_per_phrasing=0)
RARE = st.sampled_from("\x00\x07\x1f\x85\u2028\u2029\u200b\u202e\ufeff\ufffe\ud800\udfff\U0010ffffé😀’“")
FILES = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def write(path: Path, text: str) -> Path:
    data = text.encode("utf-8", "surrogatepass")
    if path.suffix == ".zst":
        data = pa.compress(data, "zstd", asbytes=True)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def write_rows(path: Path, rows: list[Any], *, ascii_only: bool = True) -> Path:
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    return write(path, "\n".join(lines) if ".jsonl" in path.name else f"[{','.join(lines)}]")


def clean(source: Path, n_rows: int, rules: Rules | None = None) -> CleanResult:
    """Cleans a file and makes sure that each of its rows is in one of the two outputs, once."""
    result = clean_files([source], source.with_name("out.jsonl"), rules, workers=1)
    kept = list(read_conversations(result.out)) if result.tally.kept else []
    quarantined = [json.loads(line) for line in result.quarantine.open(encoding="utf-8")]
    assert (result.tally.read, result.tally.kept, result.tally.dropped) == (n_rows, len(kept), len(quarantined))
    assert sorted([c.labels["row"] for c in kept] + [q["row"] for q in quarantined]) == list(range(n_rows))
    assert all(q["reason"] and q["detail"] and q["where"] for q in quarantined)
    return result


def text_keys(row: Any) -> list[str]:
    return [key for key, value in row.items() if isinstance(value, str)]


def texts(draw: st.DrawFn, change: Callable[[str], str]) -> Any:
    """A row with the text under one of its keys changed."""
    row = draw(st.sampled_from(ROWS))
    key = draw(st.sampled_from(text_keys(row)))
    return {**row, key: change(row[key])}


@st.composite
def cut(draw: st.DrawFn) -> Any:
    def change(text: str) -> str:
        start = draw(st.integers(0, len(text)))
        return text[start : draw(st.integers(start, len(text)))] if draw(st.booleans()) else text[:start]

    return texts(draw, change)


@st.composite
def spliced(draw: st.DrawFn) -> Any:
    def change(text: str) -> str:
        other = draw(st.sampled_from(ROWS))["chat"]
        return text[: draw(st.integers(0, len(text)))] + other[draw(st.integers(0, len(other))) :]

    return texts(draw, change)


@st.composite
def quotes_swapped(draw: st.DrawFn) -> Any:
    one, other = draw(st.permutations(["'", '"', "`", "’", '\\"', "\\'"]))[:2]

    def change(text: str) -> str:
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, len(text)))
        middle = text[start:end].replace(one, "\0").replace(other, one).replace("\0", other)
        return text[:start] + middle + text[end:]

    return texts(draw, change)


@st.composite
def keys_renamed(draw: st.DrawFn) -> Any:
    keys = ["chat", "system", "messages", "conversations", "tools", "query", "answers", "text", ""]
    row = {draw(st.sampled_from([key, *keys])): value for key, value in draw(st.sampled_from(ROWS)).items()}
    word = draw(st.sampled_from(["name", "arguments", "parameters", "type", "properties", "required"]))
    return json.loads(json.dumps(row).replace(f'\\"{word}\\"', f'\\"{draw(st.sampled_from(keys))}\\"'))


@st.composite
def with_rare_characters(draw: st.DrawFn) -> Any:
    def change(text: str) -> str:
        for _ in range(draw(st.integers(1, 5))):
            at = draw(st.integers(0, len(text)))
            text = text[:at] + draw(st.text(RARE, min_size=1, max_size=3) | st.text(max_size=5)) + text[at:]
        return text

    return texts(draw, change)


@st.composite
def nested(draw: st.DrawFn) -> Any:
    depth = draw(st.sampled_from([500, 3_000]))
    opening, closing = draw(st.sampled_from([("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")]))
    deep = (
        opening * depth
        + draw(st.sampled_from(["1", '"x"', ""]))
        + closing * draw(st.sampled_from([depth, depth - 1, 0]))
    )

    def change(text: str) -> str:
        at = draw(st.sampled_from([i for i, c in enumerate(text) if c in "{}[]:\"'"] or [len(text)]))
        return text[:at] + deep + text[at:]

    if draw(st.booleans()):
        return texts(draw, change)
    value: Any = "x"
    for _ in range(500):
        value = [value] if opening == "[" else {"a": value}
    row = draw(st.sampled_from(ROWS))
    return {**row, draw(st.sampled_from([*row, "labels", "tools", "messages"])): value}


DAMAGES = {
    "cut": cut(),
    "spliced": spliced(),
    "quotes swapped": quotes_swapped(),
    "keys renamed": keys_renamed(),
    "Unicode": with_rare_characters(),
    "nested 500 deep": nested(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@FILES
@given(st.data())
def test_rows_that_were_damaged(tmp_path_factory: pytest.TempPathFactory, damage: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(DAMAGES[damage] | st.sampled_from(ROWS), min_size=1, max_size=8))
    name, rules = data.draw(st.sampled_from(NAMES)), data.draw(st.sampled_from([None, EVERYTHING]))
    source = write_rows(tmp_path_factory.mktemp("fuzz") / name, rows, ascii_only=data.draw(st.booleans()))
    clean(source, len(rows), rules)


@FILES
@given(st.data())
def test_lines_that_were_damaged(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    lines = [json.dumps(row) for row in ROWS]
    pieces = ['"', "'", "\\", "{", "}", "[" * 500, "\u2028", "\x85", "\x00", "\ufeff", "\r", "NaN", "1e999", "9" * 5000]
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(lines) - 1))
        start = data.draw(st.integers(0, len(lines[at])))
        end = min(len(lines[at]), start + data.draw(st.integers(0, 60)))
        rest = data.draw(st.sampled_from([lines[at][end:], "", data.draw(st.sampled_from(lines))[start:]]))
        lines[at] = lines[at][:start] + data.draw(st.sampled_from(["", *pieces])) + rest
    # One line stays whole: a file with none that can be read is no JSON Lines.
    text = "\n".join([*lines, json.dumps(ROWS[0])])
    source = write(tmp_path_factory.mktemp("fuzz") / data.draw(st.sampled_from(NAMES[1::2])), text)
    clean(source, sum(1 for line in text.removeprefix("\ufeff").split("\n") if line.strip(" \t\r\n")))


@settings(FILES, max_examples=5)
@given(st.data())
def test_texts_of_ten_megabytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from(["x", "word ", "\u2028", '"\\', "[", "'}", "USER: a\n\n\n", "é😀"]))
    row = data.draw(st.sampled_from(ROWS))
    key = data.draw(st.sampled_from(text_keys(row)))
    at = data.draw(st.integers(0, len(row[key])))
    long = row[key][:at] + unit * (10_000_000 // len(unit.encode())) + row[key][at:]
    rows = [ROWS[0], {**row, key: long}, ROWS[1]]
    source = write_rows(tmp_path_factory.mktemp("fuzz") / data.draw(st.sampled_from(NAMES)), rows, ascii_only=False)
    result = clean(source, 3, EVERYTHING)
    assert result.tally.kept >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_row_beyond_the_limit_is_quarantined_with_its_length(tmp_path: Path, name: str) -> None:
    rows = [ROWS[0], {**ROWS[1], "chat": "x" * 17_000_000}, ROWS[1]]
    result = clean(write_rows(tmp_path / name, rows), 3)
    (entry,) = [json.loads(line) for line in result.quarantine.open(encoding="utf-8")]
    assert (entry["row"], entry["reason"]) == (1, "record_too_long")
    assert "more than the 16,777,216 that are read" in entry["detail"] and entry["detail"].startswith("17,000,0")
    assert entry["text"].startswith('{"system": "SYSTEM: Help.') and len(entry["text"]) == 2000


def test_what_is_kept_can_be_read_again_however_long_its_text_becomes(tmp_path: Path) -> None:
    # Written in ASCII, each of these characters takes six.
    rows = [{**ROWS[1], "chat": "USER: " + "é" * n + "\n\n\nASSISTANT: b"} for n in (2_700_000, 2_900_000)]
    result = clean(write_rows(tmp_path / "in.jsonl", rows, ascii_only=False), 2, EVERYTHING)
    assert {reason.value: count for reason, count in result.tally.drops.items()} == {"record_too_long": 1}
