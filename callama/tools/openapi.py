"""OpenAPI 3 documents: every operation becomes a function.

Parameters of path and query, required ones of header and cookie and the properties of a JSON or form body
become the function's parameters, side by side; where two would share a name, or the body is no object, the
body stays one parameter ``body``. What the body's schema requires is required, even where the body as a whole may
be left out: side by side nothing else tells which of them go together. https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.messages import Tool
from callama.tools.loaded import Candidate, Remark
from callama.tools.schemas import Document

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# What else a path item may hold.
_ITEM_KEYS = {"parameters", "summary", "description", "servers", "$ref"}
# The specification ignores header parameters of these names: they are said elsewhere.
_IGNORED_HEADERS = {"accept", "content-type", "authorization"}
_SIGN = re.compile(r"[^A-Za-z0-9_.-]+")
_MARKUP = re.compile(r"<[^>\n]{1,60}>|[*`#]+")


def operations(root: Mapping[str, Any], file: str) -> Iterator[Candidate]:
    """The functions of a document, each at ``FILE: GET /path``.

    Raises:
        CallamaError: it is no OpenAPI 3 document.
    """
    version = str(root.get("openapi", ""))
    if not version.startswith("3."):
        found = f"Swagger {root['swagger']}" if "swagger" in root else f"openapi: {version[:20]}"
        raise CallamaError(f"{file}: {found}; expected OpenAPI 3 (a Swagger 2 document can be converted to it)")
    paths = root.get("paths")
    if not isinstance(paths, Mapping):
        raise CallamaError(f"{file}: 'paths' is no object; an OpenAPI document without paths has no operations")
    document, names = Document(root), set[str]()
    for path, raw_item in paths.items():
        try:
            item = document.follow(raw_item)
        except CallamaError as error:
            yield Candidate(f"{file}: {path}", Remark(f"{file}: {path}", str(error)))
            continue
        if not isinstance(item, Mapping):
            where = f"{file}: {path}"
            yield Candidate(where, Remark(where, f"the path item is no object but a {type(item).__name__}"))
            continue
        for key in item:
            where = f"{file}: {str(key).upper()} {path}"
            if key not in METHODS:
                if key not in _ITEM_KEYS and not str(key).startswith("x-"):
                    yield Candidate(where, Remark(where, f"{key!r} is no method; known: {', '.join(METHODS)}"))
                continue
            notes: list[str] = []
            try:
                tool = _tool(item, item[key], f"{key} {path}", document, names, notes)
                made = Candidate(where, tool, _given(item[key], document))
            except (CallamaError, RecursionError) as error:
                made = Candidate(where, Remark(where, str(error)))
            yield made
            yield from (Candidate(where, Remark(where, note, lost=False)) for note in notes)


def _tool(
    item: Mapping[str, Any], operation: Any, place: str, document: Document, names: set[str], notes: list[str]
) -> Tool:
    if not isinstance(operation, Mapping):
        raise CallamaError(f"the operation is no object but a {type(operation).__name__}")
    schema = _parameters(item, operation, document, notes)
    name = _name(operation.get("operationId"), place, names, notes)
    tool = Tool.from_dict({"name": name, "description": _described(operation), "parameters": document.whole(schema)})
    names.add(name)
    return tool


def _parameters(
    item: Mapping[str, Any], operation: Mapping[str, Any], document: Document, notes: list[str]
) -> dict[str, Any]:
    """One object schema, references still in it."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, parameter in _merged(item, operation, document, notes).items():
        properties[name] = _value_schema(parameter, name)
        if parameter.get("required") or parameter.get("in") == "path":
            required.append(name)
    if body := document.follow(operation.get("requestBody")):
        _add_body(body, properties, required, document, notes)
    return {"type": "object", "properties": properties, "required": required}


def _merged(
    item: Mapping[str, Any], operation: Mapping[str, Any], document: Document, notes: list[str]
) -> dict[str, Mapping[str, Any]]:
    """The parameters by name: an operation's replaces the path's of the same name and place."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for holder in (item, operation):
        raw = holder.get("parameters") or []
        if not isinstance(raw, list):
            raise CallamaError(f"'parameters' is no list but a {type(raw).__name__}")
        for index, entry in enumerate(raw):
            parameter = document.follow(entry)
            if not isinstance(parameter, Mapping) or not isinstance(parameter.get("name"), str):
                raise CallamaError(f"parameters[{index}] has no name")
            place = str(parameter.get("in"))
            if not (place == "header" and parameter["name"].lower() in _IGNORED_HEADERS):
                found[parameter["name"], place] = parameter
    out: dict[str, Mapping[str, Any]] = {}
    for (name, place), parameter in found.items():
        # Request ids, session cookies and the like are the client's: nobody says them to an assistant.
        if place in ("header", "cookie") and not parameter.get("required"):
            notes.append(f"the optional {place} {name!r} is left out: the client sends it, not the model")
            continue
        if name in out:
            notes.append(f"two parameters are called {name!r}: the one in {place} is called {name}_in_{place} here")
        out[name if name not in out else f"{name}_in_{place}"] = parameter
    return out


def _value_schema(parameter: Mapping[str, Any], name: str) -> dict[str, Any]:
    schema = parameter.get("schema")
    if schema is None and isinstance(content := parameter.get("content"), Mapping):
        schema = next((media.get("schema") for media in content.values() if isinstance(media, Mapping)), None)
    if schema is not None and not isinstance(schema, Mapping):
        raise CallamaError(f"parameter {name!r}: 'schema' is no object but a {type(schema).__name__}")
    out = dict(schema or {"type": "string"})
    if isinstance(text := parameter.get("description"), str) and text.strip():
        out["description"] = _plain(text)
    if "example" in parameter:
        out["examples"] = [parameter["example"]]
    elif isinstance(given := parameter.get("examples"), Mapping):
        values = [entry["value"] for entry in given.values() if isinstance(entry, Mapping) and "value" in entry]
        out |= {"examples": values} if values else {}
    return out


def _add_body(body: Any, properties: dict[str, Any], required: list[str], document: Document, notes: list[str]) -> None:
    content = body.get("content") if isinstance(body, Mapping) else None
    if not isinstance(content, Mapping):
        raise CallamaError("'requestBody' has no 'content'")
    if not content:
        return
    kinds = sorted(content, key=lambda kind: (not re.search(r"[/+]json", kind), "form" not in kind))
    media = content[kinds[0]]
    schema = media.get("schema", {}) if isinstance(media, Mapping) else {}
    flat = _object(schema, document, 0)
    if flat is None or set(flat["properties"]) & set(properties):
        name = "body" if "body" not in properties else "request_body"
        properties[name] = schema
        if body.get("required"):
            required.append(name)
        return
    properties |= flat["properties"]
    needed = [name for name in flat["required"] if name in flat["properties"]]
    required += needed
    if needed and not body.get("required"):
        notes.append(f"the body may be left out, but what it requires is required here: {', '.join(needed)}")


def _object(schema: Any, document: Document, depth: int) -> dict[str, Any] | None:
    """An object's own properties, those of ``allOf`` among them; None where it is no plain object."""
    schema = document.follow(schema)
    if not isinstance(schema, Mapping) or depth > 8 or {"anyOf", "oneOf", "not", "if"} & schema.keys():
        return None
    parts = [_object(part, document, depth + 1) for part in schema.get("allOf", ())]
    own = schema.get("properties")
    # A body that may also be null ("type": ["object", "null"]) is the same as one that may be left out.
    kind = schema.get("type", "object")
    if (
        None in parts
        or kind not in ("object", ["object"], ["object", "null"], ["null", "object"])
        or not (parts or isinstance(own, Mapping))
    ):
        return None
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in filter(None, parts):
        properties |= part["properties"]
        required += part["required"]
    for name, inner in (own or {}).items():
        if not (isinstance(inner, Mapping) and inner.get("readOnly") is True):
            properties[str(name)] = inner
    wanted = schema.get("required", ())
    required += [n for n in wanted if n not in required] if isinstance(wanted, list) else []
    return {"properties": properties, "required": required}


def _given(operation: Mapping[str, Any], document: Document) -> dict[str, Any] | None:
    """The schema of what a success gives; None where there is none that can be read."""
    answers = operation.get("responses")
    try:
        for status, raw in answers.items() if isinstance(answers, Mapping) else ():
            content = (document.follow(raw).get("content") if str(status).startswith("2") else None) or {}
            media: Any = next((content[kind] for kind in content if re.search(r"[/+]json", kind)), {})
            if isinstance(schema := media.get("schema"), Mapping):
                flat = _object(schema, document, 0)
                return document.whole({"type": "object", **flat} if flat else schema)
    except (CallamaError, RecursionError, AttributeError):
        return None
    return None


def _name(given: Any, place: str, names: set[str], notes: list[str]) -> str:
    """The operation's id, or its method and path, as a function may be called; unlike all ``names``."""
    words = given if isinstance(given, str) and given.strip() else re.sub(r"[{}]", "", place)
    stem = _SIGN.sub("_", words).strip("_.-")[:64] or "operation"
    name, number = stem, 2
    while name in names:
        name, number = f"{stem[:60]}_{number}", number + 1
    if name != stem:
        notes.append(f"another operation is called {stem!r}: this one is called {name} here")
    return name


def _described(operation: Mapping[str, Any]) -> str:
    summary, text = (
        _plain(value) if isinstance(value := operation.get(key), str) else "" for key in ("summary", "description")
    )
    if not summary or not text or summary.rstrip(".").lower() in text.lower():
        return text or summary
    return f"{summary}{'' if summary[-1:] in '.!?' else '.'} {text}"


def _plain(text: str) -> str:
    """A description without its markup, its white space as single spaces."""
    return " ".join(_MARKUP.sub("", text).split())
