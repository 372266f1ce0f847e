"""The console script. What takes seconds to load is loaded when signals have handlers, so that Ctrl-C is one line."""

from __future__ import annotations

import warnings

from callama.cli.common import guarded, loading


def main() -> None:
    """Entry point of ``callama``."""
    guarded(_run)


def _run() -> None:
    with loading():
        from callama.cli.app import app

    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\..*")
    app()
