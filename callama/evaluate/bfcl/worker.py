"""Runs the official checker and the simulated services of its multi-turn part: a program of its own, never imported
by callama.

Started with ``python -I -S worker.py WHEEL MPMATH``; for each line of standard input, a JSON list of jobs, writes
one line, a JSON list of answers. The package's ``model_config`` imports every vendor's client; the checker
asks it for one flag only, so a stub with that flag stands in its place, in this process alone. The package runs
calls by ``eval``; here that name stands for a reader of literals, and every dialogue runs in a child of its own
with limits, because the package keeps its services in module globals. So does every check of calls: an unfinished list
in a Java or JavaScript call keeps the package's patterns busy for ever.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import resource
import sys
import types
from collections.abc import Callable
from typing import Any

CPU_SECONDS, MEMORY_BYTES = 600, 2 << 30
JOB_CPU_SECONDS = 5
_CALLS = "bfcl_eval.eval_checker.ast_eval.ast_checker"
_SERVICES = "bfcl_eval.eval_checker.multi_turn_eval"

Job = dict[str, Any]


class _Config:
    underscore_to_dot = False  # names are compared as they stand in the data


class _AnyModel(dict[str, Any]):
    def __missing__(self, name: str) -> type[_Config]:
        return _Config


def main() -> None:
    """Does all jobs."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.path.insert(0, sys.argv[1])
    sys.dont_write_bytecode = True
    stub = types.ModuleType("bfcl_eval.constants.model_config")
    stub.MODEL_CONFIG_MAPPING = _AnyModel()  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    out, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 what they print is no answer
    work = {"calls": _limited(_check_calls), "run": _limited(_run), "dialogue": _limited(_check_dialogue)}
    for line in sys.stdin:
        jobs = json.loads(line)
        if any(job["kind"] == "calls" for job in jobs):
            importlib.import_module(_CALLS)  # once, before the children that need it
        if _SERVICES not in sys.modules and any(job["kind"] != "calls" for job in jobs):
            _prepare_services(sys.argv[2])
        print(json.dumps([work[job["kind"]](job) for job in jobs]), file=out, flush=True)


def _check_calls(job: Job) -> Job:
    checker = sys.modules[_CALLS]
    try:
        language = checker.Language(job["language"])
        found = checker.ast_checker(job["functions"], job["calls"], job["answer"], language, job["category"], "callama")
        return {"valid": found["valid"], "error": "" if found["valid"] else found["error_type"]}
    except Exception as error:
        # The checker has no cure for values that its authors did not think of; none of them is right.
        return {"valid": False, "error": f"checker:{type(error).__name__}"}


def _prepare_services(mpmath: str) -> None:
    """Loads the services before the first child needs them; of the packages here they see ``mpmath`` only."""
    spec = importlib.util.spec_from_file_location(
        "mpmath", f"{mpmath}/__init__.py", submodule_search_locations=[mpmath]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["mpmath"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    utils = importlib.import_module(f"{_SERVICES}.multi_turn_utils")
    importlib.import_module(f"{_SERVICES}.multi_turn_checker")
    for path in utils.CLASS_FILE_PATH_MAPPING.values():
        if not path.endswith(("web_search", "memory_kv", "memory_vector", "memory_rec_sum")):
            importlib.import_module(path)
    vars(utils)["eval"] = lambda text: _call(text, vars(utils))


def _call(text: str, services: dict[str, Any]) -> Any:
    """What ``eval`` would give for ``instance.method(literals)``; anything else is an error, as it is for a name
    that no service has."""
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Call):
        raise SyntaxError("not a call")
    if isinstance(node.func, ast.Name):
        raise NameError(f"name {node.func.id!r} is not defined")
    target = node.func
    if not isinstance(target, ast.Attribute) or not isinstance(target.value, ast.Name) or target.attr.startswith("_"):
        raise SyntaxError("not a method of a service")
    # Beside its instances that module has whatever it imports.
    if not target.value.id.endswith("_instance"):
        raise NameError(f"name {target.value.id!r} is not defined")
    method = getattr(services[target.value.id], target.attr)
    named = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg is not None}
    return method(*map(ast.literal_eval, node.args), **named)


def _spoken(call: Job) -> str:
    """A call as the official run writes it."""
    return f"{call['name']}({','.join(f'{key}={value!r}' for key, value in call['arguments'].items())})"


def _run(job: Job) -> Job:
    """What the services answer to the last step, after all steps before it."""
    utils = sys.modules[f"{_SERVICES}.multi_turn_utils"]
    entry, results = job["entry"], []
    for calls in job["steps"]:
        results, _ = utils.execute_multi_turn_func_call(
            list(map(_spoken, calls)), entry["initial_config"], entry["involved_classes"], "callama", entry["id"],
            long_context="long_context" in entry["id"],
        )  # fmt: skip
    return {"results": results}


def _check_dialogue(job: Job) -> Job:
    checker = sys.modules[f"{_SERVICES}.multi_turn_checker"].multi_turn_checker
    turns = [[list(map(_spoken, calls)) for calls in steps] for steps in job["turns"]]
    found = checker(turns, job["answer"], job["entry"], job["entry"]["id"].rsplit("_", 1)[0], "callama")
    return {"valid": found["valid"], "error": "" if found["valid"] else found["error_type"]}


def _limited(work: Callable[[Job], Job]) -> Callable[[Job], Job]:
    """The same in a child with its own processor time; ``error`` where that did not come to its end."""

    def run(job: Job) -> Job:
        reading, writing = os.pipe()
        if not (child := os.fork()):
            resource.setrlimit(resource.RLIMIT_CPU, (JOB_CPU_SECONDS, JOB_CPU_SECONDS))
            os.close(reading)
            try:
                answer = work(job)
            except Exception as error:
                answer = {"valid": False, "results": None, "error": f"checker:{type(error).__name__}"}
            with os.fdopen(writing, "w", encoding="utf-8") as pipe:
                json.dump(answer, pipe)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        try:
            return dict(json.loads(said))
        except ValueError:
            return {"valid": False, "results": None, "error": "checker:limits"}

    return run


if __name__ == "__main__":
    main()
