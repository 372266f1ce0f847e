"""One of the accepted answers of a case, as a model would write it: what arguments are compared with one by one.

BFCL's answers hold a list of values for each argument, and one for each key of an object within. Java's and
JavaScript's values stand there as JSON, but the checker takes only strings of their source code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callama.contract.jsontext import dumps
from callama.contract.messages import ToolCall

_SUFFIXES = {"long": "L", "Bigint": "n", "float": "f"}


def wanted_calls(
    answer: Sequence[Mapping[str, Mapping[str, Sequence[Any]]]], functions: Sequence[Mapping[str, Any]], language: str
) -> tuple[ToolCall, ...]:
    """The calls with the first accepted value of each argument that may not be left out."""
    schemas = {function["name"]: function["parameters"] for function in functions}
    return tuple(
        ToolCall(name, _arguments(values, schemas[name], language)) for call in answer for name, values in call.items()
    )


def _arguments(values: Mapping[str, Sequence[Any]], schema: Mapping[str, Any], language: str) -> dict[str, Any]:
    declared, required = schema["properties"], schema.get("required", [])
    # The checker refuses what the schema does not declare, and asks for what it requires, whatever the answer says.
    kept = {k: a for k, a in values.items() if k in declared and ("" not in a or k in required)}
    return {key: _chosen(allowed, declared[key], language) for key, allowed in kept.items()}


def _chosen(allowed: Sequence[Any], declared: Mapping[str, Any], language: str) -> Any:
    if language == "python":
        return _plain(_first(allowed))
    texts = [value for value in allowed if isinstance(value, str) and value]
    # A value of any type is only compared as a string, so that its strings are the ones that can be right.
    return texts[0] if declared["type"] == "any" and texts else _source(_first(allowed), declared, language)


def _first(allowed: Any) -> Any:
    """The first value that is one ("" says that it may be left out). Some inner values stand without a list."""
    if not isinstance(allowed, list) or not allowed:
        return allowed
    return next((value for value in allowed if value != ""), allowed[0])


def _plain(value: Any) -> Any:
    """A value with one alternative in each object; what may be left out of one is."""
    if isinstance(value, dict):
        return {k: _first(v) for k, v in value.items() if not (isinstance(v, list) and "" in v)}
    return [_plain(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value


def _source(value: Any, declared: Mapping[str, Any], language: str) -> Any:
    """A value as Java or JavaScript write it; strings stand as they are."""
    if isinstance(value, str):
        return value
    kind, inner = declared["type"], declared.get("items", {}).get("type", "")
    if isinstance(value, list) and language == "java":
        quoted = kind == "ArrayList" and inner == "String"
        items = ", ".join(dumps(v) if quoted else _source(v, {"type": inner}, language) for v in value)
        return f"new ArrayList<>(Arrays.asList({items}))" if kind == "ArrayList" else f"new {inner}[]{{{items}}}"
    if isinstance(value, dict) and language == "java":
        puts = " ".join(f"put({dumps(k)}, {dumps(_first(v))});" for k, v in value.items())
        return f"new HashMap<String, Object>() {{{{ {puts} }}}}"
    if isinstance(value, dict):
        return dumps({k: _first(v) for k, v in value.items()})
    return dumps(value) + ("" if kind == "float" and language != "java" else _SUFFIXES.get(kind, ""))
