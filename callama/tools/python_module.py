"""Python modules: every public function, its type hints and docstring, becomes a tool.

The module is imported, so its code runs: it is the user's own. pydantic turns hints into JSON Schema;
docstrings may be in Google's, NumPy's, Sphinx's or Epydoc's style (``docstring_parser``).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import typing_extensions
from docstring_parser import Docstring, ParseError, parse
from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation

from callama.common.errors import CallamaError
from callama.contract.messages import Tool
from callama.contract.typewords import either, type_word
from callama.tools.loaded import Candidate, Remark


def functions(path: Path) -> Iterator[Candidate]:
    """The functions that a module defines (with ``__all__``: those it names), at ``FILE:LINE: NAME``.

    Raises:
        CallamaError: importing it fails, with the line.
    """
    for name, value in _offered(_imported(path)).items():
        yield from _candidates(name, value, path)


def callables(path: Path) -> dict[str, Callable[..., Any]]:
    """The functions of a module that ``functions`` has imported, by name, but for those that can be no tools."""
    found = _offered(sys.modules[module_name(path)])
    return {n: f for n, f in found.items() if any(isinstance(c.found, Tool) for c in _candidates(n, f, path))}


def _candidates(name: str, value: Callable[..., Any], path: Path) -> Iterator[Candidate]:
    function = inspect.unwrap(value)
    where = f"{path.name}:{function.__code__.co_firstlineno}: {name}"
    try:
        yield from _tool(name, function, where)
    except CallamaError as error:
        yield Candidate(where, Remark(where, str(error)))


def _offered(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions of a module that are tools, by name: not what it imported."""
    out = {}
    listed = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        if not callable(value) or not inspect.isfunction(inspect.unwrap(value)):
            continue
        own = getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
        if name in listed if listed is not None else own:
            out[name] = value
    return out


def module_name(path: Path) -> str:
    """Where Python keeps the imported module; files of one name in two folders are two modules."""
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    return f"_callama_tools_{path.stem}_{place[:12]}"


def _imported(path: Path) -> ModuleType:
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CallamaError(f"{path} cannot be imported as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # hints given as text are looked up there
    sys.path.insert(0, str(path.parent.resolve()))  # as Python itself does for a script
    try:
        # What is printed on standard output is ours.
        with _alive(), _readable_dicts(), contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A module may raise anything, SystemExit among it.
        what = str(error) if isinstance(error, _EndedError) else f"{type(error).__name__}: {error}"
        raise CallamaError(f"{_line_of(error, path)}: importing it fails: {what}") from None
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


class _EndedError(BaseException):
    """The module wanted to end the process."""


@contextlib.contextmanager
def _alive() -> Iterator[None]:
    """While it lasts, ``os._exit`` and ``os.abort`` raise: they would end this process without a word. A process
    that the module has forked ends as it wants to."""
    own, exit_now, abort = os.getpid(), os._exit, os.abort

    def ends(status: int) -> NoReturn:
        if os.getpid() != own:
            exit_now(status)
        raise _EndedError(f"the module ends the process by os._exit({status})")

    def aborts() -> NoReturn:
        if os.getpid() != own:
            abort()
        raise _EndedError("the module ends the process by os.abort()")

    vars(os).update(_exit=ends, abort=aborts)
    try:
        yield
    finally:
        vars(os).update(_exit=exit_now, abort=abort)


@contextlib.contextmanager
def _readable_dicts() -> Iterator[None]:
    """While it lasts, ``typing.TypedDict`` is the one of ``typing_extensions``, which does all that it does: before
    Python 3.12 pydantic reads no other. So is what tells such classes, which knows both kinds."""
    own = {name: getattr(typing, name) for name in ("TypedDict", "is_typeddict")}
    vars(typing).update({name: getattr(typing_extensions, name) for name in own})
    try:
        yield
    finally:
        vars(typing).update(own)


def _line_of(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == path.name]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _tool(name: str, function: Callable[..., Any], where: str) -> Iterator[Candidate]:
    schema = _schema(function)
    try:
        doc = parse(function.__doc__ or "")
    except ParseError:
        doc = Docstring()
        doc.short_description = function.__doc__
    said = {p.arg_name.lstrip("*"): p for p in doc.params}
    for parameter, inner in schema["properties"].items():
        about = said.get(parameter)
        if about is not None and about.description and "description" not in inner:
            inner["description"] = " ".join(about.description.split())
        if inspect.signature(function).parameters[parameter].annotation is inspect.Parameter.empty:
            what = "the docstring's is used"
            if not (known := _from_docstring(about.type_name if about is not None else None)):
                known = _from_default(inner.get("default"))
                what = "its default's is used" if known else "any value is allowed"
            inner.update(known)
            yield Candidate(where, Remark(where, f"parameter {parameter!r} has no type hint; {what}", lost=False))
    if (variable := _variable(function)) and not schema["properties"]:
        raise CallamaError(
            f"nothing is left of it to call with: {' and '.join(variable)} cannot be described to a model; "
            "name its parameters"
        )
    for parameter in variable:
        what = f"{parameter} cannot be described to a model and is left out"
        yield Candidate(where, Remark(where, what, lost=False))
    parts = [" ".join(part.split()) for part in (doc.short_description, doc.long_description) if part]
    tool = Tool.from_dict({"name": name, "description": " ".join(parts), "parameters": schema})
    gives, fault = _given(function)
    yield Candidate(where, tool, gives)
    if fault:
        what = f"no result is played: what it returns has no JSON Schema ({fault})"
        yield Candidate(where, Remark(where, what, lost=False))


def _schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON Schema of the arguments.

    Raises:
        CallamaError: a hint cannot be resolved or has no JSON form, or a parameter can only be given by position.
    """
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise CallamaError(
                f"parameter {parameter.name!r} can be given by position only; a call names its arguments"
            )
    try:
        readable: Any = _without_variable(function, signature)
        schema = TypeAdapter(readable).json_schema()
    except (NameError, PydanticUndefinedAnnotation) as error:
        raise CallamaError(f"a type hint names what is not there: {error}") from None
    except (PydanticUserError, TypeError, ValueError, RecursionError) as error:
        raise CallamaError(f"a type hint has no JSON Schema: {str(error).splitlines()[0]}") from None
    schema.setdefault("properties", {})
    schema.pop("additionalProperties", None)
    untitled: dict[str, Any] = _untitled(schema)
    return untitled


def _given(function: Callable[..., Any]) -> tuple[dict[str, Any] | None, str]:
    """The schema of what the function's hint says that it returns, None where it says nothing of use; and why a hint
    gives none."""
    try:
        hint = inspect.signature(function, eval_str=True).return_annotation
        if hint in (inspect.Parameter.empty, None, Any):
            return None, ""
        schema: dict[str, Any] = _untitled(TypeAdapter(hint).json_schema())
    except (PydanticUserError, NameError, TypeError, ValueError, RecursionError, AttributeError) as error:
        return None, (str(error).splitlines() or [type(error).__name__])[0]
    target = schema.get("$defs", {}).get(str(schema.get("$ref", "")).rsplit("/", 1)[-1])
    return (target if isinstance(target, dict) else schema), ""


def _without_variable(function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    if not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()):
        return function

    def stand_in(**arguments: Any) -> None:
        """Has the signature; pydantic reads nothing else."""

    kept = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    stand_in.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    hints = inspect.get_annotations(function, eval_str=True)
    stand_in.__annotations__ = {p.name: hints[p.name] for p in kept if p.name in hints}
    stand_in.__module__ = function.__module__
    return stand_in


def _variable(function: Callable[..., Any]) -> list[str]:
    kinds = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [f"{kinds[p.kind]}{p.name}" for p in inspect.signature(function).parameters.values() if p.kind in kinds]


def _from_docstring(word: str | None) -> dict[str, Any]:
    try:
        return type_word(word) if word else {}
    except CallamaError:
        return {}


def _from_default(default: Any) -> dict[str, Any]:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return {"type": kinds[type(default)]} if type(default) in kinds else {}


def _untitled(schema: Any) -> Any:
    """Without the titles that pydantic makes of names; a property called ``title`` stays."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs") and isinstance(value, dict):
            out[key] = {name: _untitled(inner) for name, inner in value.items()}
        elif key in ("default", "enum", "const", "examples"):
            out[key] = value
        elif not (key == "title" and isinstance(value, str)):
            out[key] = _untitled(value)
    members = out.get("anyOf")
    if members and "type" not in out and all(set(member) == {"type"} for member in members):
        out = {**either(out.pop("anyOf")), **out}  # Optional[str] in JSON Schema's short form
    return out
