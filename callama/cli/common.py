"""What every verb and script does the same way: errors without tracebacks, one JSON line at the end."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from callama.common.errors import CallamaError, UsageError, is_out_of_memory
from callama.common.places import at_home
from callama.common.signals import ENDING, EndedError, Wishes, to_handle


def status_of(number: int) -> int:
    """The exit status of a process that a signal ended, as shells count it."""
    return 128 + number


class _Stop:
    """Handles signals: whatever is going on ends by an exception, so that it can clean up behind itself."""

    def __init__(self) -> None:
        self._wishes = Wishes()
        self.heard: signal.Signals | None = None

    def __call__(self, number: int, _: object) -> None:
        if not self._wishes.is_new(number):
            return
        self.heard = signal.Signals(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise EndedError(status_of(number))


def _leave(number: int, _: object) -> None:
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"{ENDING[signal.Signals(number)]}\n".encode())
    os._exit(status_of(number))


@contextmanager
def loading() -> Iterator[None]:
    """While libraries are loaded there is nothing to clean up, and an exception in the middle of them may end in any
    other one: a signal ends the process at once."""
    before = {number: signal.signal(number, _leave) for number in to_handle()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def guarded(run: Callable[[], object], leave: Callable[[int], NoReturn] = sys.exit) -> NoReturn:
    """Runs and exits by ``leave``: 0 done, 1 failed, 2 wrong use, 129 hung up, 130 interrupted, 143
    terminated. A user's mistake is one message."""
    # Where output cannot be in UTF-8 (LC_ALL=C, a pipe of another system), a sign is spelt and the work not lost.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.argv[1:] = map(_at_home, sys.argv[1:])
    stop, numbers = _Stop(), to_handle()
    for number in numbers:
        signal.signal(number, stop)
    status = _outcome(run, stop)
    # What is done is done: a signal while Python takes itself apart would only add a traceback.
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    leave(status)


def _at_home(argument: str) -> str:
    """Shells expand ``--out ~/x`` and leave ``--out=~/x`` as it is."""
    option, _, value = argument.partition("=")
    if option.startswith("--") and (value == "~" or value.startswith("~/")):
        return f"{option}={at_home(Path(value))}"
    return argument


def _outcome(run: Callable[[], object], stop: _Stop) -> int:
    try:
        run()
    except CallamaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return _ended(signal.SIGINT)
    except SystemExit as error:
        # typer makes a status of Ctrl-C, without a word.
        code = error.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            return 1
        return next((_ended(number) for number in ENDING if code == status_of(number)), code or 0)
    except BrokenPipeError:
        # The reader of our output has gone; without this, Python complains once more while exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:
        # In the middle of a library the exception that was to end it all may come out as another one.
        if stop.heard is not None:
            return _ended(stop.heard)
        if not is_out_of_memory(error):
            raise
        print("error: out of memory; close what else uses it, or take a machine that has more", file=sys.stderr)
        return 1
    return 0


def _ended(number: signal.Signals) -> int:
    print(ENDING[number], file=sys.stderr)
    return status_of(number)


def names_of(listed: Sequence[str] | None) -> list[str] | None:
    """``["single, choice"]`` → ``["single", "choice"]``; None where the option is not given. An option that is given
    again adds to the names, so that none is lost."""
    if not listed:
        return None
    return list(dict.fromkeys(name for part in ",".join(listed).split(",") if (name := part.strip())))


def print_json(value: Any) -> None:
    """One JSON object as one line of standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)
