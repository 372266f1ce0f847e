"""Trains again and again in processes that are killed, and holds what comes out against a run that was left alone.

A process of its own, which forks: libraries are loaded once, so that a kill costs a fraction of a second.
``python -m tests.train.kills WHOLE.json KILLED.json [--random KILLS] [--every NTH_FILE_EVENT]`` takes two
configurations that differ in their folders only and prints what happened as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from callama.train.checkpoint import load_trainer, sweep
from callama.train.config import TrainConfig, load_config
from callama.train.loop import train
from callama.weights.adapter import LATEST, find_adapter
from tests.train.reference import assert_bit_equal

FILE_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


def kill_at(event: int, job: Path) -> None:
    """Has this process kill itself when it is about to touch the job's files for the n-th time."""
    left = event

    def watch(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if name in FILE_EVENTS and isinstance(arguments[0], str | os.PathLike) and str(job) in str(arguments[0]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def start(config: TrainConfig, event: int | None = None) -> int:
    """A process that goes on as a user would: from ``latest``, or afresh where there is none yet."""
    job = config.checkpoint.folder
    if pid := os.fork():
        return pid
    resume = (job / LATEST).is_file()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    try:
        if event is not None:
            kill_at(event, job)
        train(config, resume=resume, fresh=not resume)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    os._exit(0)


def ended(pid: int) -> bool:
    """Waits for a process; whether it came to its end. One that failed fails everything."""
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, "a run that was killed could not be resumed"
    return True


class Tally:
    """What the kills met, and whether each run that came to its end equals the one left alone."""

    def __init__(self, whole: TrainConfig, killed: TrainConfig) -> None:
        self.whole, self.killed = whole.checkpoint.folder, killed.checkpoint.folder
        self.kills, self.while_saving, self.runs = 0, 0, 0

    def count(self) -> None:
        """A kill has happened: was something half-written? And ``latest`` must name a whole checkpoint."""
        self.kills += 1
        self.while_saving += any(self.killed.glob(".*"))
        if (self.killed / LATEST).is_file():
            load_trainer(find_adapter(self.killed))

    def compare(self) -> None:
        """A run has come to its end."""
        self.runs += 1
        one, other = find_adapter(self.whole), find_adapter(self.killed)
        assert one.name == other.name
        assert_bit_equal(one, other)
        states = [load_trainer(folder)["optimizer"]["state"] for folder in (one, other)]
        for key, state in states[0].items():
            assert all(torch.equal(value, states[1][key][name]) for name, value in state.items())
        assert not any(self.killed.glob(".*"))
        sweep(self.killed, everything=True)


def main() -> None:
    """Kills at random moments, or at every n-th touch of the job's files up to the second save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("configs", nargs=2, type=Path)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--every", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole, killed = map(load_config, args.configs)
    train(whole, fresh=True)  # in this process: what the first run loads and compiles, its children inherit
    began = time.monotonic()
    train(whole, fresh=True)
    seconds, tally, dice = time.monotonic() - began, Tally(whole, killed), random.Random(args.random)
    while tally.kills < args.random:
        pid = start(killed)
        time.sleep(dice.uniform(0, 0.8 * seconds))
        os.kill(pid, signal.SIGKILL)
        if ended(pid):
            tally.compare()
        else:
            tally.count()
    event = 1
    while args.every and not ended(start(killed, event)):
        tally.count()
        event += args.every
    if args.random:
        assert ended(start(killed))
    tally.compare()
    print(json.dumps({"kills": tally.kills, "while_saving": tally.while_saving, "runs": tally.runs}))


if __name__ == "__main__":
    main()
