"""The end of a terminal: heard like any other wish to end, unless a command was told to outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

WRITING = """
import sys, time
from pathlib import Path
from callama.cli.common import guarded
from callama.common.files import atomic_folder
def run():
    with atomic_folder(Path(sys.argv[1]), {}) as folder:
        (folder / "a").write_text("a")
        print("begun", flush=True)
        time.sleep(float(sys.argv[2]))
guarded(run)
"""


def test_a_closed_terminal_ends_a_command_that_cleans_up_behind_itself(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    # `setsid --ctty` makes the terminal the session's, so that closing it hangs up. These tests may run under nohup.
    hearing = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)" + WRITING
    command = ["setsid", "--ctty", "--wait", sys.executable, "-c", hearing, str(tmp_path / "out"), "60"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        assert b"begun" in os.read(ours, 100) and list(tmp_path.iterdir())
        os.close(ours)
        assert process.wait(60) in (128 + signal.SIGHUP, -signal.SIGHUP)
    assert not list(tmp_path.iterdir())


def test_what_was_told_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    command = ["nohup", sys.executable, "-c", WRITING, str(tmp_path / "out"), "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "MANIFEST.json"}
