"""What an own function gives, and how it is told, as far as something sensible can be known.

A result must not contradict the call, and an answer must answer: where a value follows from the arguments, where a
status might say the opposite of what was asked for, where only the content would be of use, no result is played.
"""

from __future__ import annotations

import keyword
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from callama.contract.messages import JsonObject
from callama.synth.catalogue import SLOT
from callama.synth.names import spelled, words_of
from callama.synth.own_labels import are, label
from callama.synth.own_task import ACTING_VERBS, WORKING_VERBS, only_acts
from callama.synth.schema_makers import SCHEMA, maker_of, not_null

_MOST_GIVEN = 4
_WENT_WELL = frozenset(("ok", "success", "succeeded", "successful", "done"))
# Numbers that follow from a number among the arguments.
_WORKED_OUT = frozenset(("total", "subtotal", "sum", "result", "tax", "discount", "difference", "average", "change"))
# Verbs whose function gives its thing a new id, even where the task names the thing that it belongs to.
_MAKING = frozenset(("add", "append", "book", "copy", "create", "insert", "open", "order", "post", "register",
                     "schedule", "send", "submit"))  # fmt: skip


# What tells in a result which thing it is, and the last words of arguments that say the same.
_IDENTIFY: Mapping[str, tuple[str, ...]] = {
    "id": (), "uid": (), "login": ("username", "user", "login"), "username": ("username", "user", "login"),
    "user": ("username", "user", "login"), "name": ("name",), "title": ("title",), "slug": ("slug",),
    "city": ("location",), "location": ("city", "location"),
}  # fmt: skip


class _Function(NamedTuple):
    """What values of a result depend on: the task, and the arguments by their bare names."""

    task: str
    required: Mapping[str, str]
    optional: Mapping[str, str]
    numeric: bool
    properties: Mapping[str, Any]

    def gives_back(self, argument: str, schema: Any) -> bool:
        """Whether a value of a result may repeat an argument: what is of another type is something else."""
        return bool(_type_of(self.properties[argument]) == _type_of(schema))

    @property
    def verb(self) -> str:
        return self.task.partition(" ")[0]

    @property
    def acts(self) -> bool:
        return self.verb in ACTING_VERBS


def outcome_of(
    task: str, gives: Mapping[str, Any], parameters: Mapping[str, Any], made: Collection[str]
) -> tuple[JsonObject, list[str]]:
    """A result and how it is told: of the schema's plain values, else a reference number for what was done. What
    somebody looks up is not invented without a schema. ``made`` names the parameters that calls may hold."""
    properties: Mapping[str, Any] = parameters["properties"]
    required = {spelled(n): n for n in properties if n in parameters.get("required", ())}
    optional = {spelled(n): n for n in properties if n in made and n not in required.values()}
    numeric = any(_is_number(properties[n]) for n in required.values())
    function = _Function(task, required, optional, numeric, properties)
    if function.verb in WORKING_VERBS:
        return {}, []
    if result := _values_of(gives, function):
        new = [n for n in result if not result[n].startswith("{")]
        if new or function.acts:
            return result, _told(new or list(result))
    if gives or not only_acts(task):
        return {}, []
    done = {"status": "success", "reference_number": "@record"}
    return done, ["Done. The reference number is {reference_number}.", "That worked, reference {reference_number}.",
                  "It is done (status {status}, reference {reference_number})."]  # fmt: skip


def _told(names: Sequence[str]) -> list[str]:
    told = ", and ".join(f"the {label(n)} {are(n)} {{{n}}}" for n in names)
    listed = ", ".join(f"{label(n)}: {{{n}}}" for n in names)
    return [f"{told[:1].upper()}{told[1:]}.", f"Here is what I got: {listed}.", f"I got this: {listed}."]


def _type_of(schema: Any) -> Any:
    return not_null(schema).get("type") if isinstance(schema, Mapping) else None


def _is_number(schema: Any) -> bool:
    return _type_of(schema) in ("integer", "number")


def _values_of(gives: Mapping[str, Any], function: _Function) -> JsonObject:
    """Makers for the plain values of a result; an argument that comes back is the same. Empty where a value that its
    schema requires cannot be made: the answer would lack what was asked for."""
    whole = gives.get("type", "object") == "object"
    properties = (gives.get("properties") or {}) if whole else {"result": gives}
    needed = [name for name in gives.get("required", ()) if name in properties] if whole else []
    out: JsonObject = {}
    for name in dict.fromkeys((*needed, *properties)):
        if len(out) >= _MOST_GIVEN and name not in needed:
            break
        if made := _given(name, properties[name], function, name in needed):
            out[name] = made
        elif name in needed:
            return {}
    return {name: out[name] for name in properties if name in out}


def _given(name: str, schema: Any, function: _Function, needed: bool) -> str:
    """The maker of one value of a result; empty where nothing is known of it."""
    if not isinstance(schema, dict) or not SLOT.fullmatch(f"{{{name}}}"):
        return ""
    same = function.required.get(spelled(name)) or _own_id(name, function)
    if same and function.gives_back(same, schema):
        return f"{{{same}}}"
    if not same and (asked := _identifying(name, function)):
        return f"{{{asked}}}" if function.gives_back(asked, schema) else ""
    if _is_number(schema) and function.numeric and set(words_of(name)) & _WORKED_OUT:
        return ""
    maker = maker_of(name, schema, known_only=True)
    if maker == "boolean":
        return _flag(name, function, needed)
    maker = _picked(schema, function) if maker in ("enum", SCHEMA) else maker
    if not (perhaps := function.optional.get(spelled(name))):
        return f"@{maker}" if maker else ""
    plain = maker and perhaps.isidentifier() and not keyword.iskeyword(perhaps) and function.gives_back(perhaps, schema)
    return f"= {perhaps} or make({maker!r})" if plain else ""


def _own_id(name: str, function: _Function) -> str:
    """The argument that the ``id`` of a result repeats: ``petId``, where the task is about a pet that exists."""
    if name.lower() not in ("id", "uid") or function.verb in _MAKING:
        return ""
    said = set(words_of(function.task))
    whose = [n for n in function.required.values() if words_of(n)[-1:] == ["id"] and set(words_of(n)[:-1]) & said]
    return whose[0] if len(whose) == 1 else ""


def _identifying(name: str, function: _Function) -> str:
    """The argument that names the very thing that a result tells of: ``login`` of what was got by ``username``, ``id``
    by ``customer``. Of "the owner of a pet" the pet's name is not the owner's."""
    kin = _IDENTIFY.get(name.lower())
    if function.verb in _MAKING or kin is None or " of " in function.task:
        return ""
    if name.lower() in ("id", "uid") and len(function.required) == 1:
        kin = tuple(word.removesuffix("s") for word in words_of(function.task))
    return next((n for n in function.required.values() if words_of(n) and words_of(n)[-1] in kin), "")


def _flag(name: str, function: _Function, needed: bool) -> str:
    if not needed or spelled(name) in function.optional:
        return ""
    if function.acts:
        return "= True" if spelled(name) in _WENT_WELL else ""
    return "= pick(True, False)"


def _picked(schema: Mapping[str, Any], function: _Function) -> str:
    """One of the values that a schema names. What was done must not have the status "cancelled": only what its schema
    says to be usual is sure."""
    if function.acts:
        usual = schema.get("const", schema.get("default"))
        choices = [usual] if usual is not None else []
    else:
        choices = list(schema.get("enum") or schema.get("examples") or ())
        choices = choices if len(choices) > 1 else []
    fit = choices and all(isinstance(value, str) and value and "|" not in value for value in choices)
    return f"pick {'|'.join(choices)}" if fit else ""
