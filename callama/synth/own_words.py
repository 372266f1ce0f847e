"""Generic sentences about any function: how one asks for it, adds a wish, asks back and asks again.

Everything is made of the function's own description and the names of its parameters, so that it
fits functions that nobody has written sentences for. The result is an entry of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from callama.contract.messages import JsonObject, Tool
from callama.synth.catalogue import SLOT
from callama.synth.own_task import GETTING_VERBS, task_of
from callama.synth.schema_values import SCHEMA, maker_of
from callama.synth.speech import join, label

_PREPOSITIONS = frozenset(("from", "to", "on", "at", "in", "by", "for", "until", "since", "after", "before", "via",
                           "near", "within", "below", "above", "between", "against", "under", "over"))  # fmt: skip
_ODD = frozenset(("left", "right", "with", "without", "of", "as", "and", "not", "any", "all", "the", "dry run", "new",
                  "old", "open", "closed", "active", "enabled", "public", "private", "what", "when", "where", "who",
                  "sort", "sort by", "order by", "group by", "max", "min", "include", "exclude", "show",
                  "hide", "due"))  # fmt: skip
_UNIT = re.compile(r"(?<=\w) (?:km|m|cm|mm|kg|g|l|ml|kwh|c|f|usd|eur|min|sec)$")
_MOST_GIVEN = 4


def entry_of(
    tool: Tool, makers: Mapping[str, str], varied: Sequence[str], gives: Mapping[str, Any] | None = None
) -> JsonObject:
    """The catalogue's entry for a function. ``makers`` has the parameters that can be talked about, ``varied``
    those of them whose values are not always the same, ``gives`` is the schema of the function's result, if known."""
    task, parameters = task_of(tool), tool.parameters
    required = [n for n in parameters["properties"] if n in parameters.get("required", ())]
    optional = [n for n in makers if n not in required]
    single = [n for n in required if n in varied and _is_single(parameters["properties"][n], makers[n])]
    says = {n: _flag_words(n) for n in makers if makers[n] == "boolean"}
    missing = {
        n: {"question": question_for(n), "requests": _requests(task, [r for r in required if r != n], makers)}
        for n in required
    }
    result, answers = _outcome(task, gives or {}, required)
    return {
        "name": tool.name, "description": tool.description, "parameters": parameters, "task": task,
        "makers": dict(makers),
        "requests": _requests(task, required, makers), "optional": {n: _wishes(n, makers[n]) for n in optional},
        "says": says, "missing": missing, "vary": single, "result": result, "answers": answers,
        "again": {n: _again(n, makers[n]) for n in required if n in varied},
    }  # fmt: skip


def _is_single(schema: Any, maker: str) -> bool:
    return isinstance(schema, dict) and schema.get("type") in ("string", "integer", "number") and maker != "message"


def _requests(task: str, names: Sequence[str], makers: Mapping[str, str]) -> list[str]:
    task = re.sub(r"\byour\b", "my", task)
    start = task[:1].upper() + task[1:]
    if not names:
        return [f"{start}.", f"Please {task}.", f"Can you {task}?", f"I'd like you to {task}.", f"{start}, please.",
                f"Could you {task} for me?", f"I need you to {task}."]  # fmt: skip
    named = _named(names, makers, "{label} {slot}")
    # A colon tells where a value starts, a line or semicolon where it ends.
    listed = "; ".join(_piece(n, makers, "{label}: {slot}") for n in names)
    lines = "\n".join(_piece(n, makers, "{label}: {slot}") for n in names)
    told = " ".join(_told(n, makers) for n in names)
    quoted = _named(names, makers, '{label} "{slot}"', "using")
    out = [
        f"{start} {named}.", f"Please {task} {named}.", f"Can you {task} {named}?",
        f"I need you to {task}. {told}", f"{start}. {told}", f"{start}: {listed}", f"{start}, {listed}",
        f"I want to {task}. Here is what you need: {listed}", f"Could you {task}? {told}", f"Please {task}:\n{lines}",
        f"{start} {quoted}.", f"{named[:1].upper()}{named[1:]}, {task}, please.", f"{start} ({listed}).",
    ]  # fmt: skip
    if len(names) == 1 and makers[names[0]] not in (SCHEMA, "boolean", "message"):
        out += [f"{start}: {{{names[0]}}}"]
        if " for " not in task and not _is_odd(names[0]):
            out += [f"{start} for {{{names[0]}}}.", f"Can you {task} for {{{names[0]}}}?"]
    return out


def _named(names: Sequence[str], makers: Mapping[str, str], form: str, word: str = "with") -> str:
    """``from {from} to {to} with {date label} {date}``: names that are prepositions need no other before them."""
    places = [n for n in names if _is_preposition(n) and makers[n] != "boolean"]
    rest = [n for n in names if n not in places]
    parts = [_piece(n, makers, form) for n in places]
    return " ".join([*parts, word, join([_piece(n, makers, form) for n in rest])] if rest else parts)


def _is_preposition(name: str) -> bool:
    return label(name) in _PREPOSITIONS


def _is_odd(name: str) -> bool:
    """Whether a name is no noun that could stand behind "the"."""
    said = label(name)
    ends_open = said.rsplit(" ", 1)[-1] in _PREPOSITIONS
    return ends_open or said in _ODD or not re.search(r"[^\W\d_]{3}|^(?:id|ip|os|tv)$", said)


def _said(name: str) -> str:
    return f'"{label(name)}"' if _is_odd(name) else label(name)


def _are(name: str) -> str:
    return "are" if re.search(r"[^suis]s$", label(name)) and not _is_odd(name) else "is"


def _piece(name: str, makers: Mapping[str, str], form: str) -> str:
    slot = f"{{{name}}}"
    return slot if makers[name] == "boolean" else form.format(label=label(name), slot=slot)


def _told(name: str, makers: Mapping[str, str]) -> str:
    if makers[name] == "boolean":
        return f"I want {{{name}}}."
    if _is_odd(name):
        return f"Use {{{name}}} for {_said(name)}."
    return f"The {label(name)} {_are(name)} {{{name}}}."


def _flag_words(name: str) -> dict[str, list[str]]:
    said = _said(name)
    if _is_odd(name):
        return {"true": [f"{said} set to true", f"{said} set to yes"], "false": [f"{said} set to false"]}
    return {"true": [f"{said} on", f"{said} set to true"], "false": [f"{said} off", f"{said} set to false"]}


def _wishes(name: str, maker: str) -> list[str]:
    slot, said = f"{{{name}}}", label(name)
    if maker == "boolean":
        return [f"with {slot}", f"I want {slot}.", f"Have {slot}."]
    if _is_odd(name):
        short = f"{said} {slot}" if _is_preposition(name) else f"with {said} {slot}"
        wishes = [f"Use {slot} for {_said(name)}.", f"Set {_said(name)} to {slot}."]
        return wishes if maker in (SCHEMA, "message") else [short, *wishes]
    sentences = [f"The {said} should be {slot}.", f"Use {slot} as the {said}.", f"Set the {said} to {slot}."]
    return (
        sentences if maker in (SCHEMA, "message") else [f"with {said} {slot}", f"with {slot} as the {said}", *sentences]
    )


def question_for(name: str, form: str = "What should the {} be?") -> str:
    """What is asked where a parameter's value is missing, in a form that has a place for a noun."""
    if _is_odd(name):
        return f"What should I use for {_said(name)}?"
    return form.format(_UNIT.sub("", re.sub(r"^(?:the|given|input) ", "", label(name))))


def _again(name: str, maker: str) -> list[str]:
    slot, said = f"{{{name}}}", label(name)
    if maker == "boolean":
        return [f"And with {slot}?", f"The same with {slot}, please."]
    if _is_preposition(name):
        return [f"And {said} {slot}?", f"The same {said} {slot}, please.", f"Now {said} {slot}, please."]
    return [f"And with {said} {slot}?", f"The same with {said} {slot}, please.", f"Also with {said} {slot}, please.",
            f"Now the same for {said} {slot}."]  # fmt: skip


def _outcome(task: str, gives: Mapping[str, Any], required: Sequence[str]) -> tuple[JsonObject, list[str]]:
    """A result and how it is told: of the schema's plain values, else a reference number for what was done. What
    somebody looks up is not invented without a schema."""
    if result := _values_of(gives, required):
        new = [n for n in result if n not in required] or list(result)
        told = ", and ".join(f"the {label(n)} {_are(n)} {{{n}}}" for n in new)
        listed = ", ".join(f"{label(n)}: {{{n}}}" for n in new)
        return result, [f"{told[:1].upper()}{told[1:]}.", f"Here is what I got: {listed}.", f"I got this: {listed}."]
    if task.split(" ")[0] in GETTING_VERBS or gives:
        return {}, []
    done = {"status": "success", "reference_number": "@record"}
    return done, ["Done. The reference number is {reference_number}.", "That worked, reference {reference_number}.",
                  "It is done (status {status}, reference {reference_number})."]  # fmt: skip


def _values_of(gives: Mapping[str, Any], required: Sequence[str]) -> JsonObject:
    """Makers for the plain values of a result; an argument that comes back is the same. Empty where a value that its
    schema requires cannot be made: the answer would lack what was asked for."""
    whole = gives.get("type", "object") == "object"
    properties = (gives.get("properties") or {}) if whole else {"result": gives}
    needed = [name for name in gives.get("required", ()) if name in properties] if whole else []
    out: JsonObject = {}
    for name in dict.fromkeys((*needed, *properties)):
        if len(out) >= _MOST_GIVEN and name not in needed:
            break
        if made := _given(name, properties[name], required, name in needed):
            out[name] = made
        elif name in needed:
            return {}
    return {name: out[name] for name in properties if name in out}


def _given(name: str, schema: Any, required: Sequence[str], needed: bool) -> str:
    """The maker of one value of a result; empty where nothing is known of it."""
    if not isinstance(schema, dict) or not SLOT.fullmatch(f"{{{name}}}"):
        return ""
    if name in required:
        return f"{{{name}}}"
    maker = maker_of(name, schema, known_only=True)
    if maker == "boolean":
        return "= pick(True, False)" if needed else ""
    if maker == "enum":
        return "" if any("|" in value for value in schema["enum"]) else f"@pick {'|'.join(schema['enum'])}"
    return "" if maker == SCHEMA else f"@{maker}"
