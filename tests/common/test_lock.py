"""One writer at a time, and no trace of who was killed."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from callama.common.errors import UsageError
from callama.common.lock import LOCK, sole_writer

HOLDS = """
import sys
from pathlib import Path
from callama.common.lock import sole_writer
with sole_writer(Path(sys.argv[1]), ""):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    job = tmp_path / "deep" / "job"
    with sole_writer(job, "") as _:
        with pytest.raises(UsageError, match=rf"another run \(process {os.getpid()} on .*\) writes into {job}: wait"):
            sole_writer(job, "wait").__enter__()
        with sole_writer(tmp_path / "other", ""):
            pass
    assert list(tmp_path.iterdir()) == []  # nothing was written, so nothing stays
    with sole_writer(job, ""):
        (job / "work").write_text("")
    assert [p.name for p in job.iterdir()] == ["work"]


def test_a_lock_of_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"process {other.pid} on"):
            sole_writer(tmp_path, "").__enter__()
        other.kill()
    assert (tmp_path / LOCK).is_file()
    with sole_writer(tmp_path, ""):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
    assert not (tmp_path / LOCK).exists()


def test_the_lock_that_its_holder_took_along_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was opened while it was there and could be locked when nobody finds it any more."""
    real, first = fcntl.flock, []

    def removed_before(descriptor: int, how: int) -> None:
        if not first:
            first.append(descriptor)
            (tmp_path / LOCK).unlink()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    with sole_writer(tmp_path, ""), pytest.raises(UsageError, match="another run"):
        sole_writer(tmp_path, "").__enter__()


@pytest.mark.parametrize("broken", ["flock", "open"])
def test_where_there_are_no_locks_it_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl if broken == "flock" else os, broken, refuse)
    with sole_writer(tmp_path, ""), sole_writer(tmp_path, ""):
        pass
