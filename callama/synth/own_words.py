"""Generic sentences about any function: how one asks for it, adds a wish, asks back and asks again.

Everything is made of the function's own description and the names of its parameters, so that it
fits functions that nobody has written sentences for. The result is an entry of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from callama.contract.messages import JsonObject, Tool
from callama.synth.own_labels import are, is_odd, is_preposition, label, quoted
from callama.synth.own_results import outcome_of
from callama.synth.own_task import task_of
from callama.synth.schema_makers import SCHEMA
from callama.synth.speech import join

_UNIT = re.compile(r"(?<=\w) (?:km|m|cm|mm|kg|g|l|ml|kwh|c|f|usd|eur|min|sec)$")


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
    result, answers = outcome_of(task, gives or {}, parameters, makers)
    return {
        "name": tool.name, "description": tool.description, "parameters": parameters, "task": task,
        "makers": dict(makers),
        "requests": _requests(task, required, makers), "optional": {n: _wishes(n, makers[n]) for n in optional},
        "says": says, "missing": missing, "vary": single, "result": result, "answers": answers,
        "again": {n: _again(n, makers[n]) for n in required if n in varied},
        "labels": {n: quoted(n) for n in makers},
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
        if " for " not in task and not is_odd(names[0]):
            out += [f"{start} for {{{names[0]}}}.", f"Can you {task} for {{{names[0]}}}?"]
    return out


def _named(names: Sequence[str], makers: Mapping[str, str], form: str, word: str = "with") -> str:
    """``from {from} to {to} with {date label} {date}``: names that are prepositions need no other before them."""
    places = [n for n in names if is_preposition(n) and makers[n] != "boolean"]
    rest = [n for n in names if n not in places]
    parts = [_piece(n, makers, form) for n in places]
    return " ".join([*parts, word, join([_piece(n, makers, form) for n in rest])] if rest else parts)


def _piece(name: str, makers: Mapping[str, str], form: str) -> str:
    slot = f"{{{name}}}"
    return slot if makers[name] == "boolean" else form.format(label=label(name), slot=slot)


def _told(name: str, makers: Mapping[str, str]) -> str:
    if makers[name] == "boolean":
        return f"I want {{{name}}}."
    if is_odd(name):
        return f"Use {{{name}}} for {quoted(name)}."
    return f"The {label(name)} {are(name)} {{{name}}}."


def _flag_words(name: str) -> dict[str, list[str]]:
    said = quoted(name)
    if is_odd(name):
        return {"true": [f"{said} set to true", f"{said} set to yes"], "false": [f"{said} set to false"]}
    return {"true": [f"{said} on", f"{said} set to true"], "false": [f"{said} off", f"{said} set to false"]}


def _wishes(name: str, maker: str) -> list[str]:
    slot, said = f"{{{name}}}", label(name)
    if maker == "boolean":
        return [f"with {slot}", f"I want {slot}.", f"Have {slot}."]
    if is_odd(name):
        short = f"{said} {slot}" if is_preposition(name) else f"with {said} {slot}"
        wishes = [f"Use {slot} for {quoted(name)}.", f"Set {quoted(name)} to {slot}."]
        return wishes if maker in (SCHEMA, "message") else [short, *wishes]
    sentences = [f"The {said} should be {slot}.", f"Use {slot} as the {said}.", f"Set the {said} to {slot}."]
    return (
        sentences if maker in (SCHEMA, "message") else [f"with {said} {slot}", f"with {slot} as the {said}", *sentences]
    )


def question_for(name: str, form: str = "What should the {} be?") -> str:
    """What is asked where a parameter's value is missing, in a form that has a place for a noun."""
    if is_odd(name):
        return f"What should I use for {quoted(name)}?"
    return form.format(_UNIT.sub("", re.sub(r"^(?:the|given|input) ", "", label(name))))


def _again(name: str, maker: str) -> list[str]:
    slot, said = f"{{{name}}}", label(name)
    if maker == "boolean":
        return [f"And with {slot}?", f"The same with {slot}, please."]
    if is_preposition(name):
        return [f"And {said} {slot}?", f"The same {said} {slot}, please.", f"Now {said} {slot}, please."]
    return [f"And with {said} {slot}?", f"The same with {said} {slot}, please.", f"Also with {said} {slot}, please.",
            f"Now the same for {said} {slot}."]  # fmt: skip
