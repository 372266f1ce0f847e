"""``synth --tools`` and ``augment`` from the command line: files, counts, exit statuses, examples in the help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.evaluate.stub_server import serving

TOOL = {"name": "get_weather", "description": "Get the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}  # fmt: skip


def callama(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from callama.cli.main import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False)


def test_from_a_file_of_tools_to_augmented_data(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([TOOL, {**TOOL, "name": "not valid"}]))
    done = callama("synth", "--tools", "mine.json", "--count", 40, "--held-out-count", 5, "--workers", 1,
                   "--out", "own", "--json", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert sum(report["files"]["train.jsonl"].values()) == 40
    assert "not valid" in report["unused_functions"][0]
    done = callama("augment", "own/train.jsonl", "--out", "more.jsonl", "--workers", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "more.jsonl: " in done.stdout
    assert (tmp_path / "more.jsonl.report.json").is_file()


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nowhere_at_all\n")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.json").write_text(json.dumps([TOOL]))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MANIFEST.json").write_text(json.dumps({"callama": "1", "kind": "native checkpoint"}))
    for arguments, status, says in (
        (("synth", "--tools", "mine.py", "--out", "own"), 1, "mine.py:1: importing it fails: ModuleNotFoundError"),
        (("synth", "--tools", "set/mine.json", "--out", "set"), 2, "set is also where these tools are"),
        (
            ("synth", "--out", "model"),
            2,
            "model holds what its MANIFEST.json calls 'native checkpoint', not 'conversations'",
        ),
        (("synth", "--tools", "none.json", "--out", "own"), 2, "none.json does not exist"),
        (("synth", "--teacher", "http://localhost:1", "--out", "own"), 2, "give them with --tools"),
        (("augment", "none.jsonl", "--out", "x.jsonl"), 2, "none.jsonl does not exist"),
    ):
        done = callama(*arguments, cwd=tmp_path)
        assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (status, True, False), done.stderr
    assert not (tmp_path / "own").exists()


def test_help_has_examples(tmp_path: Path) -> None:
    for verb in ("synth", "augment"):
        assert f"callama {verb}" in callama(verb, "--help", cwd=tmp_path).stdout


def test_scenarios_are_named_with_commas(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([TOOL]))
    done = callama("synth", "--tools", "mine.json", "--count", 30, "--held-out-count", 5, "--workers", 1,
                   "--scenarios", "single, follow_up", "--scenarios", "missing_argument,choice", "--out", "own",
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1, "one function has nothing to choose from"
    assert "own is written, but holds nothing of these scenarios: follow_up, choice" in done.stderr
    written = [json.loads(line) for line in (tmp_path / "own" / "train.jsonl").read_text().splitlines()]
    assert {c["labels"]["scenario"] if "labels" in c else c["scenario"] for c in written} == {
        "single",
        "missing_argument",
    }


def test_functions_are_not_missed_where_nothing_is_called(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([TOOL]))
    done = callama("synth", "--tools", "mine.json", "--count", 3, "--held-out-count", 0, "--workers", 1, "--scenarios",
                   "plain_chat", "--out", "own", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "never called" not in done.stderr + done.stdout


def test_what_a_module_prints_does_not_break_json(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('noise')\ndef greet(name: str):\n    'Send a greeting.'\n")
    done = callama("synth", "--tools", "mine.py", "--count", 20, "--held-out-count", 2, "--workers", 1, "--out", "own",
                   "--json", cwd=tmp_path)  # fmt: skip
    assert json.loads(done.stdout)["calls"]["greet"] > 0


def test_an_interrupt_ends_the_wait_for_a_teacher(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([TOOL]))
    asked, release = threading.Event(), threading.Event()

    def hangs(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        asked.set()
        release.wait(60)
        return 500, {}, b""

    with serving(hangs) as (url, _):
        command = [sys.executable, "-c", "from callama.cli.main import main; main()", "synth", "--tools", "mine.json",
                   "--teacher", url, "--count", "9", "--out", "own"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
        try:
            assert asked.wait(60)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
            took = time.monotonic() - start
        finally:
            process.kill()
            release.set()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert took < 10, "without it, a request's whole time limit passes"
