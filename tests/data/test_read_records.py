"""Reading records: JSON lists and JSON Lines, whole, damaged, and in pieces smaller than a record."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callama.common.errors import CallamaError, UsageError
from callama.contract.messages import load_line
from callama.data import records
from callama.data.read import read_conversations
from callama.data.records import read_records

VALUES: list[Any] = [
    {"chat": 'a "]," \\ {\x85\u2028😀'},
    [],
    [[1], 2],
    "x]",
    -12.5,
    1234567,
    None,
    True,
    {"a": {"b": []}},
]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def pack(path: Path, text: str) -> Path:
    """The text, packed as the name says."""
    data = text.encode("utf-8")
    if path.suffix == ".zst":
        data = pa.compress(data, "zstd", asbytes=True)
    return write(path, gzip.compress(data) if path.suffix == ".gz" else data)


def values(path: Path) -> list[Any]:
    return [r.value for r in read_records(path) if not r.fault]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("style", [{}, {"indent": 2}, {"ensure_ascii": False, "separators": (",", ":")}])
def test_a_list_is_read_in_chunks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, style: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.json", json.dumps(VALUES, **style))
    monkeypatch.setattr(records, "CHUNK_CHARS", max(chunk, 1))
    got = list(read_records(path))
    assert [r.value for r in got] == VALUES
    assert [r.number for r in got] == list(range(len(VALUES)))


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    rows = [{"a": "x\x85y\u2028z\u2029\x0b\x0c\x1c"}, {"b": 1}]
    text = "\ufeff" + "\r\n\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    assert values(write(tmp_path / "a.jsonl", text)) == rows


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt"])
def test_content_decides_the_form(tmp_path: Path, name: str) -> None:
    assert values(write(tmp_path / name, '{"a": 1}\n{"a": 2}\n')) == [{"a": 1}, {"a": 2}]
    assert values(write(tmp_path / name, '{"a": 1}')) == [{"a": 1}]
    assert values(write(tmp_path / name, '[{"a": 1},\n{"a": 2}]')) == [{"a": 1}, {"a": 2}]


def test_a_damaged_line_has_a_fault_and_the_others_do_not(tmp_path: Path) -> None:
    deep, digits = "[" * 100_000, "9" * 5000
    path = write(tmp_path / "a.jsonl", f'{{"a": 1}}\n{{"a": \n\n{deep}\n{digits}\nNaN\n[1]\n{{"b": 2}}')
    got = list(read_records(path))
    assert [r.value for r in got if not r.fault] == [{"a": 1}, [1], {"b": 2}]
    assert [(r.number, r.where) for r in got if r.fault] == [(1, "line 2"), (2, "line 4"), (3, "line 5"), (4, "line 6")]
    assert got[1].raw == '{"a":'


@pytest.mark.parametrize("chunk", [100, 1 << 20])
def test_a_list_goes_on_behind_an_element_that_python_cannot_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(records, "CHUNK_CHARS", chunk)
    deep = "[" * 3000 + '"]\\"]"' + "]" * 3000
    path = write(tmp_path / "a.json", f'[{{"a": 1}}, {deep}, {"9" * 5000}, NaN, {{"b": Infinity}}, {{"b": 2}}]')
    got = list(read_records(path))
    assert [bool(r.fault) for r in got] == [False, True, True, True, True, False]
    assert got[1].raw == deep and got[5].value == {"b": 2}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_object_with_a_key_twice_is_not_half_read(tmp_path: Path, name: str) -> None:
    texts = ['{"a": 1}', '{"a": 1, "b": 2, "a": 3}', '[{"b": {"c": 1, "c": 1}}]', '{"a": {"a": 1}}']
    path = write(tmp_path / name, "\n".join(texts) if name == "a.jsonl" else f"[{', '.join(texts)}]")
    got = list(read_records(path))
    assert [r.value for r in got if not r.fault] == [{"a": 1}, {"a": {"a": 1}}]
    assert ["a key twice" in r.fault for r in got if r.fault] == [True, True] and got[1].raw == texts[1]


def test_bytes_that_are_not_utf8_become_lone_surrogates(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.jsonl", b'{"a": "\xff"}\n{"b": 1}\n')) == [{"a": "\udcff"}, {"b": 1}]
    assert values(write(tmp_path / "a.json", b'[{"a": "\xff"}, {"b": 1}]')) == [{"a": "\udcff"}, {"b": 1}]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "", "is empty"),
        ("a.jsonl", " \n\n", "is empty"),
        ("a.json", "[]", "empty list"),
        ("a.json", "hello", "neither a JSON list nor JSON Lines: line 1"),
        ("a.jsonl", "hello\nworld", "neither a JSON list nor JSON Lines: line 1"),
        ("a.json", "\n\n<html>", "line 3 starts with '<html>'"),
        ("a.json", '{\n  "a": 1\n}', "neither"),
        ("a.json", '[{"a": 1}, {"a": 2', "record 1"),
        ("a.json", '[{"a": 1}, {"a": 2}', "behind record 1: expected ',' or ']', found the end of the file"),
        ("a.json", '[{"a": 1} {"a": 2}]', "character 11, behind record 0"),
        ("a.json", '[{"a": 1}, {"a": x, "b": "0123456789 0123456789"}]', "record 1, character 17"),
        ("a.json", '[{"a": 1}] x', "behind the list's end"),
        ("a.json", '[{"a": 1},]', "record 1"),
    ],
)
def test_what_is_neither_form_is_an_error_with_its_place(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(CallamaError) as caught:
        list(read_records(path))
    assert str(path) in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.jsonl", ("" if encoding == "utf-16" else "\ufeff").encode(encoding) + b'{"a": 1}')
    with pytest.raises(CallamaError, match=r"a\.jsonl is UTF-16 text; expected UTF-8"):
        records.Scan(path)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match=r"a\.jsonl is a pipe or device; expected"):
        records.Scan(tmp_path / "a.jsonl")


def test_a_missing_file_or_folder_is_wrong_use(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(UsageError, match=path.name):
            read_records(path)


LONG: list[Any] = [
    {"a": "x" * 5000},
    ["x" * 5000],
    "x" * 5000,
    'x"]}\\' * 1000,
    "\\" * 4000,
    [[[{"a": ["[{", 1, "}]"]}] * 30]] * 20,
    int("9" * 3000),
    {"\x85\u2028😀": "\ud800" * 1000},
]


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz", "a.json.zst", "a.jsonl.zst"])
def test_a_record_beyond_the_limit_has_a_fault_and_the_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1000)
    monkeypatch.setattr(records, "CHUNK_CHARS", chunk)
    rows = [row for pair in zip([{"row": n} for n in range(len(LONG))], LONG, strict=True) for row in pair]
    texts = [json.dumps(row) for row in rows]
    text = "\n".join(texts) if "jsonl" in name else f"[{', '.join(texts)}]"
    got = list(read_records(pack(tmp_path / name, text)))
    assert [r.number for r in got] == list(range(len(rows)))
    assert [r.value for r in got[::2]] == rows[::2] and not any(r.fault for r in got[::2])
    for record, whole in zip(got[1::2], texts[1::2], strict=True):
        assert record.too_long and record.value is None and record.raw and whole.startswith(record.raw)
        assert f"{record.chars:,} characters long, more than the 1,000" in record.fault
        assert len(whole) <= record.chars <= len(whole) + 1  # a line's end counts where there is one


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_the_limit_itself_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1000)
    for n, too_long in ((1000, False), (1001, True)):
        text = json.dumps({"a": "x" * (n - 9)})
        text = text if name == "a.jsonl" else f"[{text}]"
        (got,) = records.Scan(write(tmp_path / name, text))
        assert got.too_long is too_long


def test_a_file_that_breaks_off_inside_a_record_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1000)
    monkeypatch.setattr(records, "CHUNK_CHARS", 100)
    for text in ('[{"a": "' + "x" * 5000, "[" + "9" * 5000, '["' + "x" * 5000 + "\\"):
        with pytest.raises(CallamaError, match=r"a\.json, record 0: the file ends inside this record"):
            list(read_records(write(tmp_path / "a.json", text)))


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_record_of_any_length_takes_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1 << 20)
    monkeypatch.setattr(records, "CHUNK_CHARS", 1 << 16)
    line = '{"a": "' + 'x\\"]},' * 5_000_000 + '", "b": [' + "[1]," * 20_000 + "2]}"
    text = line if form == "jsonl" else f"[{line}, 1]"
    path = write(tmp_path / f"a.{form}", f"{text}\n2\n" if form == "jsonl" else text)
    del line, text
    tracemalloc.start()
    got = [(r.too_long, r.value) for r in records.Scan(path)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got[0] == (True, None) and len(got) == 2
    assert peak < 8_000_000 < path.stat().st_size


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["[", "]", "{", "}", ",", '"', "\\", ":", "1", "a", " ", "\n", "null", '{"a": 1}'])))
def test_no_text_raises_anything_but_a_callama_error(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("a.json", "a.jsonl"):
        with contextlib.suppress(CallamaError):
            list(read_records(write(folder / name, "".join(parts))))


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, form: str) -> None:
    row = json.dumps({"chat": "x" * 2000})
    n = 15_000
    path = write(tmp_path / f"a.{form}", "\n".join([row] * n) if form == "jsonl" else "[" + ",\n".join([row] * n) + "]")
    tracemalloc.start()
    assert sum(1 for _ in read_records(path)) == n
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000 < path.stat().st_size


def test_conversations_name_file_and_record(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for name, text in (("a.jsonl", f"{json.dumps(good)}\n{{}}"), ("a.json", json.dumps([good, {}]))):
        path = write(tmp_path / name, text)
        got = read_conversations(path)
        assert next(got).messages[1].content == "b"
        with pytest.raises(CallamaError, match=rf"{name}, (line 2|record 1): .*messages"):
            next(got)
    with pytest.raises(CallamaError, match="callama clean"):
        list(read_conversations(write(tmp_path / "raw.jsonl", '{"system": null, "chat": "USER: a"}')))
    with pytest.raises(CallamaError, match="line 2: not JSON"):
        list(read_conversations(write(tmp_path / "cut.jsonl", json.dumps(good) + '\n{"messages": [')))
    with pytest.raises(UsageError):
        read_conversations(tmp_path / "none.jsonl")


def test_a_conversation_beyond_the_limit_is_an_error_that_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 50)
    path = write(tmp_path / "a.jsonl", json.dumps({"messages": [{"role": "user", "content": "x" * 100}]}))
    with pytest.raises(CallamaError, match=r"a\.jsonl, line 1: .* more than the 50 .*`callama clean` puts"):
        list(read_conversations(path))


def test_a_damaged_first_line_that_opens_with_brackets_is_a_line(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("[" * 500 + '\n{"a": 1}\n{"a": 2}\n')
    found = list(read_records(source))
    assert [bool(record.fault) for record in found] == [True, False, False]
    for text in ('[\n{"a": 1}\n]\n', '[{"a": 1},\n{"a": 2}]', '[{"a": 1}]\n'):
        source.write_text(text)
        assert not any(record.fault for record in read_records(source))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(value=json_values, spaced=st.booleans(), ascii_only=st.booleans())
def test_a_line_that_is_read_fast_has_the_value_that_the_strict_reader_gives(
    value: Any, spaced: bool, ascii_only: bool
) -> None:
    line = json.dumps(value, separators=None if spaced else (",", ":"), ensure_ascii=ascii_only)
    if (fast := load_line(line)) is not None:
        assert repr(fast) == repr(json.loads(line))


@pytest.mark.parametrize("line", ['{"a":1,"a":1}', '{"a":NaN}', '{"a":1e999}', '{"a": 1}', '"\\ud800"', "[1] ", "x"])
def test_only_lines_as_cleaning_writes_them_are_read_fast(line: str) -> None:
    assert load_line(line) is None


@pytest.mark.parametrize("behind", [",", " ,", ",  ", "\r"])
def test_a_list_with_one_record_a_line_has_the_records_of_any_other_layout(tmp_path: Path, behind: str) -> None:
    path = tmp_path / "a.json"
    lines = [json.dumps(value) for value in VALUES]
    path.write_text("[\n" + f"{behind.replace(chr(13), ',' + chr(13))}\n".join(lines) + "\n]\n", newline="")
    read = list(read_records(path))
    assert [(r.number, r.where, r.value, r.fault, r.chars) for r in read] == [
        (i, f"record {i}", value, "", len(line)) for i, (value, line) in enumerate(zip(VALUES, lines, strict=True))
    ]
