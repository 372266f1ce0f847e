"""Full disks, limits and signals at random moments, for real: what stands at the destination is the old or the new,
whole, and the source is as it was."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import CallamaError
from callama.common.files import sha256_file
from callama.common.verify import verify_folder
from callama.model.params import ModelParams
from callama.weights.convert import convert
from callama.weights.native import write_native
from tests import tiny
from tests.weights.formats import random_state, snapshot

ON_A_SMALL_DISK = """
import json, sys
from pathlib import Path
from callama.common.errors import CallamaError
from callama.common.files import sha256_file
from callama.weights.convert import convert
from callama.weights.merge import merge_to_folder
sources, disk = Path(sys.argv[1]), Path(sys.argv[2])
def state():
    return {str(p.relative_to(disk)): sha256_file(p) for p in sorted(disk.rglob("*")) if p.is_file()}
convert(sources / "peft", disk / "out", "peft")
before, said = state(), {}
for to in ("native", "hf", "meta", "gguf", "merge", "peft"):
    place = disk / ("out.gguf" if to == "gguf" else "out")
    if to == "peft":
        with (disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                filler.truncate(filler.tell() - 8192)
        before = state()
    try:
        if to == "merge":
            merge_to_folder(sources / "native", sources / "peft", place, max_changed=1)
        else:
            convert(sources / ("peft" if to == "peft" else "native"), place, to)
        said[to] = "it fitted"
    except CallamaError as error:
        said[to] = str(error)
    assert state() == before, to
    assert not [p for p in disk.iterdir() if p.suffix == ".tmp"], to
print(json.dumps(said))
"""


def test_a_disk_that_is_full_leaves_what_was_there(whole: Path, tmp_path: Path) -> None:
    """A real file system of 600 kB in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    setup = f"mount -t tmpfs -o size=600k tmpfs {tmp_path / 'disk'}"
    spaces = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None or subprocess.run([*spaces, "sh", "-c", setup], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    python = [sys.executable, "-c", ON_A_SMALL_DISK, str(whole), str(tmp_path / "disk")]
    done = subprocess.run(
        [*spaces, "sh", "-c", f'{setup} && exec "$@"', "sh", *python], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for to, said in json.loads(done.stdout.splitlines()[-1]).items():
        assert re.search(r"the disk is full while writing .*out.*; free some space and run again", said), (to, said)


@pytest.mark.parametrize("to", ["native", "hf", "meta", "gguf"])
def test_a_limit_on_file_sizes_leaves_what_was_there(whole: Path, tmp_path: Path, to: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CallamaError, match=r"is larger than files may be here \(ulimit -f"):
            convert(whole / "native", tmp_path / ("out.gguf" if to == "gguf" else "out"), to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


# Forks for each line on its input, before torch has started threads that a fork would lose.
KILLABLE = """
import os, signal, sys
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
from callama.cli.common import guarded
from callama.weights.convert import convert
for line in sys.stdin:
    source, out, to, dtype = line.split()
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        guarded(lambda: convert(Path(source), Path(out), to, dtype=dtype))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# The negative ones where the signal came before or after the conversion, with nothing to clean up.
STATUS = {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15), signal.SIGHUP: (129, -1), signal.SIGKILL: (-9,)}


@pytest.fixture(scope="module")
def run_and_kill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[int, float]]]:
    """Converts in a process that gets a signal after so many seconds; gives its exit status and how long it took."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", KILLABLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def run(source: Path, out: Path, to: str, dtype: str, after: float, how: int) -> tuple[int, float]:
            process.stdin.write(f"{source} {out} {to} {dtype}\n")
            process.stdin.flush()
            child, began = int(process.stdout.readline()), time.perf_counter()
            if how:
                time.sleep(after)
                with contextlib.suppress(ProcessLookupError):  # it was done before
                    os.kill(child, how)
            return int(process.stdout.readline()), time.perf_counter() - began

        yield run
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("to", ["native", "hf", "meta", "gguf"])
def test_killed_at_any_moment_the_destination_is_the_old_or_the_new_one(
    run_and_kill: Callable[..., tuple[int, float]], tmp_path: Path, to: str
) -> None:
    params = ModelParams(256, 4, 8, 400, 4, 64, max_seq_len=8192)
    tiny.write_tokenizer(tmp_path / "tokenizer.json", 400)
    native, out = tmp_path / "native", tmp_path / ("out.gguf" if to == "gguf" else "out")
    write_native(native, params, random_state(params, tied=False), tmp_path / "tokenizer.json", {})
    before, results = snapshot(native), {}
    for dtype in ("fp32", "bf16"):
        status, seconds = run_and_kill(native, out, to, dtype, 0, 0)
        assert status == 0
        results[dtype] = state_of(out)
    moments = random.Random(7)
    for _ in range(6):
        how = moments.choice(list(STATUS))
        dtype = moments.choice(["fp32", "bf16"])
        earlier = state_of(out)
        status, _ = run_and_kill(native, out, to, dtype, moments.uniform(0, 1.1) * seconds, how)
        assert status in (0, *STATUS[how])
        assert state_of(out) in ([results[dtype]] if status == 0 else [earlier, results[dtype]])
        left = [p for p in tmp_path.iterdir() if p.name not in ("native", out.name, "tokenizer.json")]
        assert not left or how == signal.SIGKILL
        for path in left:
            assert re.fullmatch(rf"\.{re.escape(out.name[:50])}\.\d+-[0-9a-f]{{8}}\.tmp", path.name), path
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert snapshot(native) == before
    assert out.is_file() or verify_folder(out).extra == []


def state_of(out: Path) -> dict[str, str] | str:
    return sha256_file(out) if out.is_file() else snapshot(out)


# Signals itself after so many seconds.
ALARMED = """
import os, signal, sys, threading, time
after, number = float(sys.argv.pop(1)), int(sys.argv.pop(1))
signal.signal(signal.SIGHUP, signal.SIG_DFL)
def alarm():
    time.sleep(after)
    for _ in range(2):  # as `timeout` does: to the process, then to its group
        os.kill(os.getpid(), number)
threading.Thread(target=alarm, daemon=True).start()
from callama.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
)
@pytest.mark.parametrize("verb", ["convert", "merge"])
def test_a_signal_at_any_moment_is_one_line_and_leaves_nothing(
    whole: Path, tmp_path: Path, verb: str, number: int, status: int, said: str
) -> None:
    """Real processes, from the loading of libraries to the end."""
    out = tmp_path / "out"
    arguments = {"convert": [whole / "native", out, "--to", "hf"],
                 "merge": [whole / "native", whole / "peft", out, "--max-changed", "1"]}[verb]  # fmt: skip

    def run(after: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", ALARMED, str(after), str(int(number)), verb, *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    before, began = snapshot(whole), time.perf_counter()
    assert run(600).returncode == 0
    seconds, stopped = time.perf_counter() - began, 0
    shutil.rmtree(out)
    for share in (0.2, 0.6, 0.85):
        done = run(share * seconds)
        assert done.returncode in (0, status), done.stderr
        if done.returncode:
            stopped += 1
            assert "Traceback" not in done.stderr and "ignored" not in done.stderr, done.stderr
            assert done.stderr.splitlines()[-1] == said and list(tmp_path.iterdir()) == []
        else:
            shutil.rmtree(out)
    assert stopped and snapshot(whole) == before
