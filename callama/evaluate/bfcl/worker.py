"""Runs the official checker: a program of its own, never imported by callama.

Started with ``python -I -S worker.py WHEEL``; reads one JSON list of jobs from standard input, writes
one JSON list of verdicts. The package's ``model_config`` imports every vendor's client; the checker
asks it for one flag only, so a stub with that flag stands in its place, in this process alone.
"""

from __future__ import annotations

import json
import resource
import sys
import types
from typing import Any

CPU_SECONDS, MEMORY_BYTES = 120, 2 << 30


class _Config:
    underscore_to_dot = False  # names are compared as they stand in the data


class _AnyModel(dict[str, Any]):
    def __missing__(self, name: str) -> type[_Config]:
        return _Config


def main() -> None:
    """Checks all jobs."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.path.insert(0, sys.argv[1])
    sys.dont_write_bytecode = True
    stub = types.ModuleType("bfcl_eval.constants.model_config")
    stub.MODEL_CONFIG_MAPPING = _AnyModel()  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    verdicts = []
    for job in json.load(sys.stdin):
        try:
            language = Language(job["language"])
            found = ast_checker(job["functions"], job["calls"], job["answer"], language, job["category"], "callama")
            verdicts.append({"valid": found["valid"], "error": "" if found["valid"] else found["error_type"]})
        except Exception as error:
            # The checker has no cure for values that its authors did not think of; none of them is right.
            verdicts.append({"valid": False, "error": f"checker:{type(error).__name__}"})
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
