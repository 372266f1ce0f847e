"""The one way into callama for functions that are not its own: what a file is, its content decides.

JSON and YAML may hold an OpenAI list of tools, a chat request with ``tools``, an MCP server's
``tools/list`` reply or an OpenAPI 3 document; a ``.py`` file is imported, which runs it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from callama.common.errors import CallamaError, UsageError
from callama.common.files import require_file
from callama.tools.loaded import Candidate, Loaded, Remark, each, settle
from callama.tools.openapi import operations
from callama.tools.python_module import functions

EXPECTED = "an OpenAI list of tools, an MCP tools/list reply, an OpenAPI 3 document (JSON or YAML) or a Python module"
_SHOWN = 5


def load_tools(paths: Sequence[Path]) -> Loaded:
    """The functions of these files as tools; what cannot be used is in ``remarks``.

    A Python module is imported: its code runs with the rights of this process.

    Raises:
        UsageError: a file is missing.
        CallamaError: no file has a function that can be used, or the only one is none of the known kinds or
            cannot be imported.
    """
    loaded = settle(itertools.chain.from_iterable(_usable(path, alone=len(paths) == 1) for path in paths))
    if not loaded.tools:
        names = ", ".join(map(str, paths))
        why = [f"  {remark}" for remark in loaded.lost[:_SHOWN]]
        more = [f"  … and {len(loaded.lost) - _SHOWN:,} more"] if len(loaded.lost) > _SHOWN else []
        raise CallamaError("\n".join([f"{names}: no function that can be used", *why, *more]))
    return loaded


def _usable(path: Path, alone: bool) -> Iterator[Candidate]:
    """A file's functions; beside others, a file that cannot be read is one remark."""
    try:
        yield from _candidates(path)
    except CallamaError as error:
        if alone or isinstance(error, UsageError):
            raise
        yield Candidate(path.name, Remark(path.name, str(error)))


def _candidates(path: Path) -> Iterator[Candidate]:
    require_file(path, EXPECTED)
    if path.suffix == ".py":
        return functions(path)
    document = _read(path)
    if isinstance(document, Mapping) and ("openapi" in document or "swagger" in document):
        return operations(document, path.name)
    return _listed(document, path)


def _listed(document: Any, path: Path) -> Iterator[Candidate]:
    cursor = None
    if isinstance(document, Mapping) and isinstance(document.get("result"), Mapping):
        document = document["result"]  # JSON-RPC's frame around an MCP reply
    if isinstance(document, Mapping) and "tools" not in document and isinstance(document.get("error"), Mapping):
        code, text = (document["error"].get(key) for key in ("code", "message"))
        raise CallamaError(f"{path}: the server answered with an error and no tools: {str(text)[:300]} (code {code})")
    if isinstance(document, Mapping) and "tools" in document:
        document, cursor = document["tools"], document.get("nextCursor")
    elif isinstance(document, Mapping) and ("function" in document or "name" in document):
        document = [document]
    if not isinstance(document, list):
        raise CallamaError(f"{path}: expected {EXPECTED}; found {_kind(document)}")
    yield from each((_place(path, index, raw), raw) for index, raw in enumerate(document))
    if cursor:
        where = f"{path.name}: nextCursor"
        what = "the server has more tools than this page; save all pages and give them together"
        yield Candidate(where, Remark(where, what, lost=False))


def _place(path: Path, index: int, raw: Any) -> str:
    inner = raw.get("function", raw) if isinstance(raw, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return f"{path.name}: tool {index}" + (f" ({name[:80]})" if isinstance(name, str) else "")


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"an object with the keys {', '.join(str(key)[:40] for key in list(value)[:6]) or 'none'}"
    return "nothing" if value is None else f"a {type(value).__name__}"


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix not in (".yaml", ".yml"):
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                if path.suffix == ".json":
                    raise
        return yaml.load(text, _Loader)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError too
        raise CallamaError(f"{path} cannot be read ({error}); expected {EXPECTED}") from None
    except yaml.YAMLError as error:
        raise CallamaError(f"{path} is not YAML ({' '.join(str(error).split())}); expected {EXPECTED}") from None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as JSON Schema means it: ``no`` and ``2024-01-01`` are text, as they are in YAML 1.2."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (the name and shape are the library's)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        if first not in "yYnNoO"
    }
