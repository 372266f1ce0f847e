"""Cleaning end to end: files, counts, quarantine, the original's script and the verb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.data.clean import clean_files
from callama.data.read import read_conversations
from callama.data.work import Rules

REPO = Path(__file__).resolve().parents[2]
GLAIVE = REPO.parent / "shared" / "data" / "glaive"
needs_glaive = pytest.mark.skipif(not GLAIVE.is_dir(), reason=f"{GLAIVE} is absent")

SYSTEM = 'SYSTEM: Help. -\n{"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}\n'
CALL = 'ASSISTANT: <functioncall> {"name": "f", "arguments": \'{"a": "it\'s"}\'} <|endoftext|>'
GOOD = {
    "system": SYSTEM,
    "chat": f"USER: a\n\n\n{CALL}\n\n\nFUNCTION RESPONSE: ok\n\n\nASSISTANT: b\u2028 <|endoftext|>\n",
}
KEEP_ALL = Rules(cut_tails=False, remove_duplicates=False, max_per_phrasing=0)
TEXT = {"system": "SYSTEM: Help.\n\n", "chat": "USER: a\n\nASSISTANT: b <|endoftext|>\n\n"}
BAD = {"system": SYSTEM, "chat": "USER: a\n\n\nASSISTANT: <functioncall> {}"}


def write_rows(path: Path, rows: list[Any]) -> Path:
    text = json.dumps(rows, indent=1) if path.suffix == ".json" else "\n".join(json.dumps(r) for r in rows)
    path.write_text(text, encoding="utf-8")
    return path


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPO / "scripts" / "clean_dataset.py", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=60)


@pytest.mark.parametrize("source", ["in.json", "in.jsonl"])
@pytest.mark.parametrize("out", ["out.json", "out.jsonl"])
def test_every_record_is_kept_or_quarantined(tmp_path: Path, source: str, out: str) -> None:
    path = write_rows(tmp_path / source, [GOOD, BAD, TEXT, 7])
    result = clean_files([path], tmp_path / "sub" / out)
    assert [c.labels["row"] for c in read_conversations(result.out)] == [0, 2]
    quarantined = read_lines(result.quarantine)
    assert [(q["row"], q["reason"], q["record"]) for q in quarantined] == [
        (1, "call_not_json", BAD),
        (3, "not_an_object", 7),
    ]
    assert quarantined[0]["fragment"] == "{}" and quarantined[0]["detail"]
    report = json.loads(result.report.read_text())
    assert (report["read"], report["kept"], report["dropped"], report["kept_with_calls"]) == (4, 2, 2, 1)
    assert {k: v["count"] for k, v in report["drops"].items()} == {"call_not_json": 1, "not_an_object": 1}
    assert report["repairs"]["apostrophe_in_arguments"]["count"] == 1
    assert all(v["meaning"] for v in (*report["drops"].values(), *report["repairs"].values()))
    assert sorted(p.name for p in result.out.parent.iterdir()) == sorted(
        [out, f"{out}.quarantine.jsonl", f"{out}.report.json"]
    )


def test_a_json_list_has_one_record_a_line(tmp_path: Path) -> None:
    result = clean_files([write_rows(tmp_path / "in.jsonl", [GOOD, TEXT])], tmp_path / "out.json")
    lines = result.out.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("[", "]", 4)
    assert len(json.loads(result.out.read_text())) == 2
    nothing = clean_files([write_rows(tmp_path / "in.jsonl", [BAD])], tmp_path / "out.json")
    assert json.loads(nothing.out.read_text()) == []


def test_broken_lines_and_lone_surrogates_are_quarantined(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    bad_bytes = json.dumps(TEXT).encode().replace(b"a\\n", b"a\xff\\n")
    path.write_bytes(b"\n".join([json.dumps(GOOD).encode(), b'{"chat": ', b"[" * 5000, bad_bytes]))
    result = clean_files([path], tmp_path / "out.jsonl")
    got = [(q["where"], q["reason"], q.get("text", "")[:9]) for q in read_lines(result.quarantine)]
    assert got == [
        ("line 2", "unreadable_record", '{"chat":'),
        ("line 3", "unreadable_record", "[" * 9),
        ("line 4", "lone_surrogate", ""),
    ]


def test_cleaning_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.json", [GOOD, TEXT, BAD])
    first, second = (clean_files([source], tmp_path / name).out.read_bytes() for name in ("a.jsonl", "b.jsonl"))
    assert first == second


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    out = clean_files([write_rows(tmp_path / "in.json", [GOOD])], tmp_path / "out.jsonl").out
    before = out.read_bytes()
    source = tmp_path / "cut.json"
    source.write_text(json.dumps([GOOD, GOOD])[:-9])
    with pytest.raises(CallamaError, match=r"cut\.json, record 1"):
        clean_files([source], out)
    assert out.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_wrong_use(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.json", [GOOD])
    for bad_source, out in ((tmp_path / "none", tmp_path / "o"), (source, tmp_path), (source, source)):
        with pytest.raises(UsageError):
            clean_files([bad_source], out)
    assert json.loads(source.read_text()) == [GOOD]
    with pytest.raises(UsageError, match="is a folder; expected a file to write"):
        clean_files([source], Path())
    with pytest.raises(UsageError, match=r"o.jsonl.gz: what is written is not packed; choose a name such as o.jsonl"):
        clean_files([source], tmp_path / "o.jsonl.gz")
    with pytest.raises(UsageError, match=r"o.PARQUET: what is written is JSON Lines, not Parquet; .* such as o.jsonl"):
        clean_files([source], tmp_path / "o.PARQUET")


@needs_glaive
@pytest.mark.parametrize("name", ["raw_rows.jsonl", "reserialised_200.jsonl"])
def test_genuine_rows(tmp_path: Path, name: str) -> None:
    raw = read_lines(GLAIVE / name)
    result = clean_files([GLAIVE / name], tmp_path / "out.jsonl", KEEP_ALL)
    kept = {c.labels["row"]: c for c in read_conversations(result.out)}
    for number, conversation in kept.items():
        assert len(conversation.called()) == raw[number]["chat"].count("<functioncall>")
        for message in conversation.messages:
            if message.role in ("user", "assistant"):
                assert (message.content or "") in raw[number]["chat"]
    dropped = [(q["row"], q["reason"]) for q in read_lines(result.quarantine)]
    # Row 7 has lost its system text: nothing declares the function that it calls.
    assert dropped == ([(7, "undeclared_function")] if name == "raw_rows.jsonl" else [])


@needs_glaive
def test_trap_13_doctors_appointment_keeps_its_apostrophe(tmp_path: Path) -> None:
    result = clean_files([GLAIVE / "raw_rows.jsonl"], tmp_path / "out.jsonl", Rules(remove_no_fc=True))
    (row,) = (c for c in read_conversations(result.out) if c.labels["row"] == 5)
    call = next(m.tool_calls[0] for m in row.messages if m.tool_calls)
    assert call.arguments["reminder_text"] == "Doctor's appointment"


def test_the_script(tmp_path: Path) -> None:
    source, out = write_rows(tmp_path / "in.json", [GOOD, TEXT, BAD]), tmp_path / "new" / "out.json"
    done = run("--source-file", source, "--save-file", out, "--remove-no-fc", "--seed", "3", "-v")
    assert done.returncode == 0, done.stderr
    assert "3 read = 1 kept + 2 dropped" in done.stdout
    assert "no_function_call" in done.stdout and "apostrophe_in_arguments" in done.stdout
    assert "row 2 (record 2): call_not_json" in done.stderr
    assert len(json.loads(out.read_text())) == 1


@needs_glaive
def test_the_script_on_genuine_rows(tmp_path: Path) -> None:
    done = run("--source-file", GLAIVE / "raw_rows.jsonl", "--save-file", tmp_path / "out.jsonl")
    assert done.returncode == 0 and "8 read = 7 kept + 1 dropped" in done.stdout


def test_the_script_tells_mistakes_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    empty = tmp_path / "empty.json"
    empty.write_text("")
    for source, status in ((tmp_path / "none.json", 2), (tmp_path, 2), (empty, 1)):
        done = run("--source-file", source, "--save-file", out)
        assert done.returncode == status
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and str(source) in errors[0] and "Traceback" not in done.stderr
    assert not out.exists()
    assert run("--source-file", empty).returncode == 2


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import typer
    from typer.testing import CliRunner

    from callama.cli.clean import clean

    app = typer.Typer()
    app.command()(clean)
    source = write_rows(tmp_path / "in.json", [GOOD, TEXT, BAD])
    done = CliRunner().invoke(app, [str(source), "--out", str(tmp_path / "o.jsonl"), "--remove-no-fc", "--json"])
    assert done.exit_code == 0
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["read"], report["kept"], report["dropped"]) == (3, 1, 2)


def test_switches(tmp_path: Path) -> None:
    thanks = {
        "system": SYSTEM,
        "chat": GOOD["chat"] + "\n\nUSER: Thanks\n\n\nASSISTANT: You're welcome! Feel free to ask. <|endoftext|>",
    }
    made_up = {**GOOD, "chat": GOOD["chat"].replace("it's", "Zanzibar").replace("USER: a", "USER: c")}
    source = write_rows(tmp_path / "in.json", [thanks, TEXT, made_up])

    def kept(**options: Any) -> dict[int, int]:
        result = clean_files([source], tmp_path / "out.jsonl", Rules(**options))
        return {c.labels["row"]: len(c.messages) for c in read_conversations(result.out)}

    assert kept() == {0: 5, 1: 3, 2: 5}
    assert kept(cut_tails=False) == {0: 7, 1: 3, 2: 5}
    assert kept(remove_no_fc=True) == {0: 5, 2: 5}
    assert kept(require_grounded=True) == {1: 3}
    endings = [kept(balance=True, seed=seed) for seed in range(12)]
    assert {ends[0] for ends in endings} == {3, 5} and all(ends[1] == 3 for ends in endings)
    many = write_rows(tmp_path / "many.json", [{**GOOD, "chat": f"{GOOD['chat']}\n\n\nUSER: {i}"} for i in range(40)])
    texts = [
        clean_files([many], tmp_path / "out.jsonl", Rules(balance=True, seed=1), workers=workers).out.read_bytes()
        for workers in (1, 3)
    ]
    assert texts[0] == texts[1] != b""


def test_the_report_tells_by_function_what_nobody_said(tmp_path: Path) -> None:
    made_up = {**GOOD, "chat": GOOD["chat"].replace("it's", "Zanzibar")}
    result = clean_files([write_rows(tmp_path / "in.json", [GOOD, made_up])], tmp_path / "out.jsonl")
    grounding = json.loads(result.report.read_text())["grounding"]
    assert grounding["arguments"]["ungrounded"] == 2
    assert grounding["functions"]["f"] == {
        "ungrounded": 2,
        "examples_of_ungrounded": {"a": {"row": 0, "value": '"it\'s"'}},
    }


@pytest.mark.parametrize(
    "options",
    [
        {"format_name": "alpaca"},
        {"workers": 0},
        {"rules": Rules(max_per_phrasing=-1)},
        {"mix": [1, 1]},
        {"rules": Rules(seed=2**63)},
        {"rules": Rules(seed=-(2**63) - 1)},
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any]) -> None:
    source = write_rows(tmp_path / "in.json", [GOOD])
    with pytest.raises(UsageError, match="--"):
        clean_files([source], tmp_path / "out.jsonl", **options)


@needs_glaive
def test_genuine_conversations_with_a_call_are_kept_unless_they_repeat_another(tmp_path: Path) -> None:
    source = GLAIVE / "reserialised_200.jsonl"
    calling = {n for n, row in enumerate(read_lines(source)) if "<functioncall>" in row["chat"]}
    result = clean_files([source], tmp_path / "out.jsonl")
    kept = {c.labels["row"] for c in read_conversations(result.out)}
    dropped = {q["row"]: q["reason"] for q in read_lines(result.quarantine)}
    assert kept | dropped.keys() == set(range(200)) and not kept & dropped.keys()
    assert set(dropped.values()) == {"exact_duplicate", "near_duplicate"}
    assert len(calling) == 100 and len(calling & kept) == 91


def test_a_killed_run_leaves_nothing_for_ever(tmp_path: Path) -> None:
    source, out = write_rows(tmp_path / "in.json", [GOOD, BAD]), tmp_path / "out.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path; from callama.data.clean import clean_files\n"
        "clean_files([Path(sys.argv[1])], Path(sys.argv[2]), on_drop=lambda *_: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", code, source, out], cwd=REPO, timeout=60)
    assert killed.returncode == -9 and len(list(tmp_path.glob(".out.jsonl.clean-*"))) == 1
    clean_files([source], tmp_path / "other.jsonl")
    (left,) = tmp_path.glob(".out.jsonl.clean-*")
    running = left.with_name(left.name.rpartition("-")[0].rpartition("-")[0] + f"-{os.getpid()}-x")
    running.mkdir()
    clean_files([source], out)
    assert [path for path in tmp_path.iterdir() if ".clean-" in path.name] == [running]


@pytest.mark.parametrize("content", [{"a": 1}, [1], 42, True])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_stray_result_of_any_kind_costs_its_own_record(tmp_path: Path, content: Any, place: int) -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "hi"}]
    said.insert(place, {"role": "tool", "content": content})
    rows = [{"messages": [*said, {"role": "assistant", "content": "x"}]}, TEXT]
    result = clean_files([write_rows(tmp_path / "in.jsonl", rows)], tmp_path / "out.jsonl")
    assert (result.tally.kept, result.tally.dropped) == (1, 1)


def test_a_number_beyond_any_float_is_a_number(tmp_path: Path) -> None:
    system = SYSTEM.replace('"string"', '"integer"')
    chat = (
        f'USER: a\n\n\nASSISTANT: <functioncall> {{"name": "f", "arguments": \'{{"a": 1{"0" * 400}}}\'}} <|endoftext|>'
    )
    source = write_rows(tmp_path / "in.jsonl", [{"system": system, "chat": chat}, TEXT])
    assert clean_files([source], tmp_path / "out.jsonl").tally.kept == 2


def test_sources_of_one_name_and_sources_named_twice(tmp_path: Path) -> None:
    sources = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        sources.append(write_rows(tmp_path / folder / "in.jsonl", [BAD, TEXT]))
    result = clean_files(sources, tmp_path / "out.jsonl", KEEP_ALL)
    assert [line["file"] for line in read_lines(result.quarantine)] == ["a/in.jsonl", "b/in.jsonl"]
    assert [c.labels["file"] for c in read_conversations(result.out)] == ["a/in.jsonl", "b/in.jsonl"]
    with pytest.raises(UsageError, match="is named twice"):
        clean_files([sources[0], sources[0]], tmp_path / "out.jsonl")


def test_a_source_that_has_nothing_to_give_to_a_mixture(tmp_path: Path) -> None:
    sources = [write_rows(tmp_path / "good.jsonl", [GOOD, TEXT]), write_rows(tmp_path / "bad.jsonl", [BAD])]
    with pytest.raises(
        CallamaError, match=r"bad.jsonl has no conversation that can be used: leave it and its share out"
    ):
        clean_files(sources, tmp_path / "out.jsonl", mix=[3, 1])
    assert not (tmp_path / "out.jsonl").exists()
    assert clean_files(sources, tmp_path / "out.jsonl", mix=[1, 0]).tally.kept == 2


def test_keys_that_are_not_read_are_counted_by_name(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [
        {"messages": talk, "difficulty": 3, "note": None},
        {"messages": [*talk, *talk], "difficulty": "hard", "category": "x"},
        {**TEXT, "category": "x", "\ud800": 1},
        {"messages": [], "lost": 1},
    ]
    result = clean_files([write_rows(tmp_path / "in.jsonl", rows)], tmp_path / "out.jsonl", workers=1)
    assert json.loads(result.report.read_text())["keys_not_read"] == {"difficulty": 2, "category": 2, "?": 1}
    done = run("--source-file", tmp_path / "in.jsonl", "--save-file", tmp_path / "again.jsonl")
    assert "keys not read: difficulty 2, category 2, ? 1\n" in done.stdout
