"""Words that may mean the same thing, as far as their first letters tell: "logic" and "logical", "ship" and "shipment";
and by their words, tools that may do the same.

Errs on the side of likeness: it serves to refuse, never to accept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from callama.contract.messages import Tool
from callama.synth.names import spelled, words_of
from callama.synth.own_task import GETTING_VERBS, task_of

_LEAST, _MOST = 4, 6  # letters that are compared
# Signs that stand for words.
_SIGNS = {"%": ("percent",), "$": ("dollar", "currency"), "€": ("euro", "currency"), "£": ("pound", "currency")}
_GLUE = frozenset(["a", "an", "the", "of", "in", "on", "at", "to", "for", "from", "by", "with", "and", "or", "get"])
# Words that tools of all kinds share.
_VAGUE = frozenset(("about", "all", "any", "api", "are", "available", "based", "between", "can", "create", "data",
                    "delete", "detail", "details", "given", "help", "how", "info", "information", "need", "new", "one",
                    "provide", "set", "specific", "specified", "tell", "that", "this", "two", "update", "use", "user",
                    "using", "want", "what", "with", "you", "your"))  # fmt: skip
# Parameters of all kinds of tools.
_ANY_PARAMETER = frozenset(("date", "end", "list", "name", "number", "start", "text", "time", "type", "value"))


def akin(one: str, other: str) -> bool:
    """Whether two words, in lower case, have the same stem."""
    length = min(len(one), len(other), _MOST)
    return one == other or (length >= _LEAST and one[:length] == other[:length])


def share_words(some: Collection[str], others: Collection[str]) -> bool:
    """Whether a word of the one is akin to a word of the other."""
    return any(akin(one, other) for one in some for other in others)


def alike(one: Tool, other: Tool) -> bool:
    """Whether two tools may do the same errand, as far as their names and descriptions tell."""
    if spelled(one.name) == spelled(other.name):
        return True
    first, second = _content(one), _content(other)
    return len(first & second) >= 0.5 * max(1, min(len(first), len(second)))


def may_do(tool: Tool, gone: Sequence[Tool], request: str, everyday: Collection[str] = ()) -> bool:
    """Whether a tool may do what is asked for, of the ``gone`` ones or in words that it shares: of its name and
    description, or of its parameters with the request. Of ``everyday`` words, only two of its parameters tell."""
    said = {*words_of(request.lower()), *(word for sign, words in _SIGNS.items() if sign in request for word in words)}
    asked = said | {word for one in gone for word in (*words_of(one.name), *_content(one), *_parameters(one))}
    own = {*words_of(tool.name), *_content(tool)}
    if share_words(_telling(own), _telling(asked)):
        return True
    shared = {word for word in _telling(_parameters(tool)) if share_words((word,), _telling(said))}
    return len(shared) > 1 or not shared <= {*everyday}


def _parameters(tool: Tool) -> set[str]:
    return {word for name in tool.parameters["properties"] for word in words_of(name)} - _ANY_PARAMETER


def _telling(words: Collection[str]) -> set[str]:
    return {w for w in words if len(w) > 2 and w not in _GLUE and w not in GETTING_VERBS and w not in _VAGUE}


def _content(tool: Tool) -> set[str]:
    words = words_of(f"{' '.join(words_of(tool.name))} {task_of(tool)}".lower())
    return {w.removesuffix("s") for w in words if w not in _GLUE and len(w) > 2}
