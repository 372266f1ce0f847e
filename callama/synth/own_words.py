"""Generic sentences about any function: how one asks for it, adds a wish, asks back and asks again.

Everything is made of the function's own description and the names of its parameters, so that it
fits functions that nobody has written sentences for. The result is an entry of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from callama.contract.messages import JsonObject, Tool
from callama.synth.names import words_of
from callama.synth.schema_values import SCHEMA
from callama.synth.speech import join, label

_VERBS = frozenset(
    re.findall(
        r"\w+",
        """
accept activate add adjust allocate analyse analyze append apply approve archive ask assign attach authenticate
authorize begin bill block book build buy calculate call cancel capture change charge check choose classify clean
clear close commit compare complete compress compute configure confirm connect convert cook copy count create
deactivate debit decode define delete deliver deploy detect determine disable dispatch display download draft draw
drive edit enable encode end estimate evaluate exchange execute export extract feed fetch fill filter find finish fix
flag fly format generate get give grant hide hire hold identify import increase index insert inspect install invite
invoke issue join launch like link list load lock log look lookup make manage mark measure merge modify move mute
notify open order park pause pay perform pick ping place plan plant play post predict preview print process provide
publish purchase push put query quote rank rate read rebuild receive recommend record refill refresh refund register
reject release remind remove rename render renew rent replace reply report request reschedule reserve reset resize
resolve restart restore resume retrieve return review revoke rotate route run save scale scan schedule score search
select send set share ship show sign simulate solve sort split start stop store submit subscribe suggest summarise
summarize switch sync tag test toggle track transfer transform translate trigger turn unblock unlock unmute
unsubscribe update upgrade upload use validate verify view wash water withdraw write
""",
    )
)
_GETTING = frozenset(("get", "find", "list", "search", "show", "fetch", "retrieve", "read", "look", "lookup", "query",
                      "view", "check", "calculate", "compute", "return", "count", "estimate", "compare"))  # fmt: skip
# Descriptions that talk about the function instead of saying what it does.
_PREAMBLE = re.compile(
    r"^(?:(?:this|the) (?:function|tool|endpoint|operation|method|api|call)\s+(?:is used to|allows (?:you|users?) to|"
    r"lets (?:you|users?)|can be used to|will|is for)?\s*|(?:used to|use this (?:function|tool|endpoint)? ?to|"
    r"allows (?:you|users?) to|lets (?:you|users?)|api (?:to|for)|"
    r"an? (?:function|tool|endpoint) (?:to|that|which))\s+)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?:;](?:\s|$)|\n| \(")
# Behind one of these words stands what is done to, so that the word before it is a verb.
_OBJECT_STARTS = ("a ", "an ", "the ", "all ", "your ", "one ", "some ", "this ", "every ", "new ", "multiple ")
_MAX_TASK_CHARS = 90


def task_of(tool: Tool) -> str:
    """What a function does, after "I can …": from its description, else from its name."""
    text = " ".join(re.sub(r"[{}*`\"]", "", tool.description).split())
    text = _SENTENCE_END.split(_PREAMBLE.sub("", text), maxsplit=1)[0].strip(" ,-")
    first, _, rest = text.partition(" ")
    verb = _base(first.lower()) or (first.lower() if rest.startswith(_OBJECT_STARTS) else "")
    if text and len(text) <= _MAX_TASK_CHARS and rest and verb:
        return f"{verb} {rest}"
    words = words_of(tool.name) or [tool.name.lower()]
    if verb := _base(words[0]):
        return " ".join([verb, *words[1:]])
    if len(words) > 1 and (verb := _base(words[-1])):
        return " ".join([verb, *words[:-1]])
    return f"use {' '.join(words)}"


def _base(word: str) -> str:
    """``gets`` → ``get``, ``fetches`` → ``fetch``; empty for what is no verb that is known."""
    forms = [
        word,
        word.removesuffix("s"),
        word.removesuffix("es"),
        word.removesuffix("ing"),
        word.removesuffix("ing") + "e",
    ]
    if word.endswith("ies"):
        forms.append(word.removesuffix("ies") + "y")
    return next((form for form in forms if form in _VERBS), "")


def entry_of(tool: Tool, makers: Mapping[str, str], varied: Sequence[str]) -> JsonObject:
    """The catalogue's entry for a function. ``makers`` has the parameters that can be talked about, ``varied``
    those of them whose values are not always the same."""
    task, parameters = task_of(tool), tool.parameters
    required = [n for n in parameters["properties"] if n in parameters.get("required", ())]
    optional = [n for n in makers if n not in required]
    single = [n for n in required if n in varied and _is_single(parameters["properties"][n], makers[n])]
    says = {n: _flag_words(label(n)) for n in makers if makers[n] == "boolean"}
    missing = {
        n: {"question": _question(n), "requests": _requests(task, [r for r in required if r != n], makers)}
        for n in required
    }
    result, answers = _outcome(task)
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
    start = task[:1].upper() + task[1:]
    if not names:
        return [f"{start}.", f"Please {task}.", f"Can you {task}?", f"I'd like you to {task}.", f"{start}, please.",
                f"Could you {task} for me?", f"I need you to {task}."]  # fmt: skip
    named = join([_piece(n, makers, "{label} {slot}") for n in names])
    # A colon tells where a value starts, a line or semicolon where it ends.
    listed = "; ".join(_piece(n, makers, "{label}: {slot}") for n in names)
    lines = "\n".join(_piece(n, makers, "{label}: {slot}") for n in names)
    told = " ".join(_told(n, makers) for n in names)
    quoted = join([_piece(n, makers, '{label} "{slot}"') for n in names])
    out = [
        f"{start} with {named}.", f"Please {task} with {named}.", f"Can you {task} with {named}?",
        f"I need you to {task}. {told}", f"{start}. {told}", f"{start}: {listed}", f"{start}, {listed}",
        f"I want to {task}. Here is what you need: {listed}", f"Could you {task}? {told}", f"Please {task}:\n{lines}",
        f"{start} using {quoted}.", f"With {named}, {task}, please.", f"{start} ({listed}).",
    ]  # fmt: skip
    if len(names) == 1 and makers[names[0]] not in (SCHEMA, "boolean", "message"):
        out += [f"{start}: {{{names[0]}}}", f"{start} for {{{names[0]}}}.", f"Can you {task} for {{{names[0]}}}?"]
    return out


def _piece(name: str, makers: Mapping[str, str], form: str) -> str:
    slot = f"{{{name}}}"
    return slot if makers[name] == "boolean" else form.format(label=label(name), slot=slot)


def _told(name: str, makers: Mapping[str, str]) -> str:
    return f"I want {{{name}}}." if makers[name] == "boolean" else f"The {label(name)} is {{{name}}}."


def _flag_words(name: str) -> dict[str, list[str]]:
    return {"true": [f"{name} on", f"{name} set to true"], "false": [f"{name} off", f"{name} set to false"]}


def _wishes(name: str, maker: str) -> list[str]:
    slot, said = f"{{{name}}}", label(name)
    if maker == "boolean":
        return [f"with {slot}", f"I want {slot}.", f"Have {slot}."]
    sentences = [f"The {said} should be {slot}.", f"Use {slot} as the {said}.", f"Set the {said} to {slot}."]
    return (
        sentences if maker in (SCHEMA, "message") else [f"with {said} {slot}", f"with {slot} as the {said}", *sentences]
    )


def _question(name: str) -> str:
    return f"What should the {label(name)} be?"


def _again(name: str, maker: str) -> list[str]:
    slot, said = f"{{{name}}}", label(name)
    if maker == "boolean":
        return [f"And with {slot}?", f"The same with {slot}, please."]
    return [f"And with {said} {slot}?", f"The same with {said} {slot}, please.", f"Also with {said} {slot}, please.",
            f"Now the same for {said} {slot}."]  # fmt: skip


def _outcome(task: str) -> tuple[JsonObject, list[str]]:
    if task.split(" ")[0] in _GETTING:
        return {"result": "@title"}, ["The result is {result}.", "I found {result}.", "Here it is: {result}."]
    done = {"status": "success", "reference_number": "@record"}
    return done, ["Done. The reference number is {reference_number}.", "That worked, reference {reference_number}.",
                  "It is done (status {status}, reference {reference_number})."]  # fmt: skip
