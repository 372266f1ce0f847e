"""Files as they lie on disk: packed in every way, mislabelled, damaged."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callama.common.errors import CallamaError, UsageError
from callama.data.clean import clean_files
from callama.data.formats.registry import FORMATS
from callama.data.read import read_conversations
from callama.data.records import MAX_RECORD_CHARS, Scan, read_records
from callama.data.work import Rules
from tests.data.test_formats import RECORDS

ROWS = [{"messages": [{"role": "user", "content": f"é\u2028 {n}"}, {"role": "assistant", "content": "ok"}]} for n in
        range(700)]  # fmt: skip


def write(path: Path, rows: list[Any] = ROWS) -> Path:
    """The rows, packed as the name says."""
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    data = json.dumps(rows).encode() if ".json" in path.suffixes else lines
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    elif path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(data)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(data)
    return path


NAMES = ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz", "a.json.zst", "a.jsonl.zst", "a.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_every_packing_gives_the_same_records(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    assert [record.value for record in read_records(path)] == ROWS
    assert [c.messages[0].content for c in read_conversations(path)] == [r["messages"][0]["content"] for r in ROWS]
    renamed = path.rename(tmp_path / "renamed.jsonl")
    assert [record.value for record in read_records(renamed)] == ROWS


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_every_format_in_every_packing_shows_itself_or_is_forced(tmp_path: Path, name: str, form: str) -> None:
    source, plain = write(tmp_path / name, [RECORDS[form]] * 3), write(tmp_path / "b.jsonl", [RECORDS[form]] * 3)
    rules = Rules(remove_duplicates=False)
    outs = [
        clean_files([path], tmp_path / f"{path.name}.{forced}.jsonl", rules, format_name=forced, workers=1)
        for path in (source, plain)
        for forced in (None, form)
    ]
    assert {out.tally.kept for out in outs} == {3}
    assert len({out.out.read_bytes() for out in outs}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_progress_runs_from_nothing_to_all(tmp_path: Path, name: str) -> None:
    scan = Scan(write(tmp_path / name))
    shares = [scan.progress]
    for _ in scan:
        shares.append(scan.progress)
    assert shares[0] == 0 and shares == sorted(shares) and 0 < shares[-1] <= 1 == scan.progress


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_packed_file_that_was_cut_is_an_error_and_nothing_is_written(tmp_path: Path, name: str, keep: float) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    out = tmp_path / "out.jsonl"
    with pytest.raises(CallamaError, match=name):
        clean_files([path], out)
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_values_that_json_lacks_are_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"day": date(2024, 1, 2), "bytes": b"\xff"}]), path)
    result = clean_files([path], tmp_path / "out.jsonl")
    (entry,) = [json.loads(line) for line in result.quarantine.open()]
    assert (entry["reason"], "2024" in entry["text"]) == ("unknown_format", True)


def test_a_parquet_row_has_the_length_limit_of_a_line(tmp_path: Path) -> None:
    rows = [{"system": "a", "chat": "USER: é" + "x" * size} for size in (10, MAX_RECORD_CHARS, 20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    first, long, last = read_records(tmp_path / "in.parquet")
    assert (first.value, last.value) == (rows[0], rows[2])
    assert long.too_long and long.value is None and "bytes long" in long.fault
    assert long.raw.startswith('{"system": "a", "chat": "USER: ') and len(long.raw) == 2_000


def test_missing_columns_of_parquet_rows_are_no_calls(tmp_path: Path) -> None:
    call = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    rows = [
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": call}],
         "tools": json.dumps([{"name": "f"}])},
        ROWS[0],
    ]  # fmt: skip
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    result = clean_files([path], tmp_path / "out.jsonl")
    assert (result.tally.kept, result.tally.with_calls) == (2, 1)


def test_an_empty_parquet_file_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"messages": pa.array([], pa.string())}), path)
    with pytest.raises(CallamaError, match="no rows"):
        clean_files([path], tmp_path / "out.jsonl")
    with pytest.raises(UsageError):
        Scan(tmp_path / "none.parquet")


def test_bytes_that_flipped_in_a_gzip_file_are_told(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join(map(json.dumps, ROWS)).encode(), mtime=0)
    for place in range(20, len(whole), len(whole) // 40):
        path = tmp_path / "in.jsonl.gz"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(CallamaError, match=r"in.jsonl.gz is a damaged gzip file .* fetch it again"):
            clean_files([path], tmp_path / "out.jsonl")


def test_a_comma_alone_in_a_line_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text(f"[\n{json.dumps(ROWS[0])},\n,\n{json.dumps(ROWS[1])}\n]\n")
    with pytest.raises(CallamaError, match=r"in.json, record 1, character \d+: not JSON"):
        clean_files([path], tmp_path / "out.jsonl")


def test_columns_of_objects_give_each_the_keys_of_all(tmp_path: Path) -> None:
    """As ``datasets`` writes them: three functions, each with the others' parameters as nulls, and an empty column."""
    rows = []
    for name, key, kind, value in (("f", "a", "string", "x"), ("g", "b", "integer", 2), ("h", "c", "boolean", True)):
        schema = {"type": "object", "properties": {key: {"type": kind}}, "required": [key]}
        call = {"id": "1", "type": "function", "function": {"name": name, "arguments": {key: value}}}
        said = [{"role": "user", "content": f"Do {name} with {value}"}, {"role": "assistant", "tool_calls": [call]}]
        tools = [{"type": "function", "function": {"name": name, "description": "d", "parameters": schema}}]
        rows.append({"messages": said, "tools": tools})
    plain = clean_files([write(tmp_path / "in.jsonl", rows)], tmp_path / "plain.jsonl")
    packed = write(tmp_path / "in.parquet", [{**row, "chat": None} for row in rows])
    columns = clean_files([packed], tmp_path / "columns.jsonl")
    assert plain.tally.kept == columns.tally.kept == 3
    assert (tmp_path / "plain.jsonl").read_bytes() == (tmp_path / "columns.jsonl").read_bytes()
    empty = write(tmp_path / "empty.jsonl", [{**row, "chat": None, "conversations": None} for row in rows])
    assert clean_files([empty], tmp_path / "out.jsonl").tally.kept == 3
