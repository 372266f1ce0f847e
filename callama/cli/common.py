"""What every verb and script does the same way: errors without tracebacks, one JSON line at the end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from callama.common.errors import CallamaError, UsageError


def guarded(run: Callable[[], object]) -> NoReturn:
    """Runs and exits: 0 done, 1 failed, 2 wrong use, 130 interrupted, 143 terminated. A user's mistake is one
    message."""
    # Without a handler, what is half-written would stay: nothing that cleans up behind itself would run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        run()
    except CallamaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone; without this, Python complains once more while exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def print_json(value: Any) -> None:
    """One JSON object as one line of standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)
