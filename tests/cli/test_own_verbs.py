"""``synth --tools`` and ``augment`` from the command line: files, counts, exit statuses, examples in the help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
    for arguments, status, says in (
        (("synth", "--tools", "mine.py", "--out", "own"), 1, "mine.py:1: importing it fails: ModuleNotFoundError"),
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
