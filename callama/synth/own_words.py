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
from callama.synth.names import words_of
from callama.synth.schema_values import SCHEMA, maker_of
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
_PREPOSITIONS = frozenset(("from", "to", "on", "at", "in", "by", "for", "until", "since", "after", "before", "via",
                           "near", "within", "below", "above", "between", "against", "under", "over"))  # fmt: skip
_ODD = frozenset(("left", "right", "with", "without", "of", "as", "and", "not", "any", "all", "the", "dry run", "new",
                  "old", "open", "closed", "active", "enabled", "public", "private", "what", "when", "where", "who",
                  "sort", "sort by", "order by", "group by", "max", "min", "include", "exclude", "show",
                  "hide", "due"))  # fmt: skip
_UNIT = re.compile(r"(?<=\w) (?:km|m|cm|mm|kg|g|l|ml|kwh|c|f|usd|eur|min|sec)$")
_MOST_GIVEN = 4
# Nouns as often as verbs: "order status", "feed times". With an object behind them they are verbs.
_NOUNS_TOO = frozenset(
    re.findall(
        r"\w+",
        """
bill book capture change charge check cook copy count debit design display download draft draw exchange export extract
feed filter find finish fix flag fly form format grant hire hold import increase index invite issue launch link list
load lock log look mark match measure merge mute order park pause pay pick ping place plan plant post preview print
process purchase query quote rank rate record refund register release remind rent report request reserve return review
route run scale scan schedule score search share ship sign sort split start stop store submit switch sync tag test
track transfer transform trigger turn update upgrade upload use view wash water
""",
    )
) - frozenset(re.findall(r"\w+", "find list pay remind register search start stop submit turn update upload use"))
_VERBS_IN_FRONT = frozenset(("book", "check", "copy", "count", "download", "export", "extract", "print", "schedule",
                             "track"))  # fmt: skip
_INVERTED = re.compile(r"(?:is|are|was|do|does|did|can|will|should)\b")
_ASKING = ("whether", "how", "what", "when", "which", "who", "where")
_NO_VERBS = frozenset((*_ASKING, "if", "all", "both", "the", "a", "an", "in", "of", "for", "from", "with", "about",
                       "as", "to", "on", "by", "at", "and", "or", "not", "only", "also", "given"))  # fmt: skip
# What a model reads as the end of a turn must not get from a description into what is said.
_SPECIAL = re.compile(r"<\|[^|<>\n]{0,60}\|>|[\x00-\x1f\x7f-\x9f]")
# Behind one of these words stands what is done to, so that the word before it is a verb.
_OBJECT_STARTS = ("a ", "an ", "the ", "all ", "your ", "one ", "some ", "this ", "every ", "new ", "multiple ",
                  "whether ", "how ", "what ", "which ", "that ")  # fmt: skip
# "Price of a car" can be got; "Creation of an order" cannot.
_THING = re.compile(r"(?:[\w'-]+ ){0,3}?(?![\w'-]+(?:tion|ment|al|ing|sion) )[\w'-]+ of \w")
_DETERMINED = ("a ", "an ", "the ", "all ", "your ", "one ", "some ", "every ")
_MAX_TASK_CHARS = 90


def task_of(tool: Tool) -> str:
    """What a function does, after "I can …": from its description, else from its name, else only that it is used."""
    if phrase := verb_phrase(tool):
        return phrase
    words = words_of(tool.name) or [tool.name.lower()]
    return " ".join(words) if len(words) > 1 and words[0] in _VERBS else f"use {' '.join(words)}"


def verb_phrase(tool: Tool) -> str:
    """What a function does as a verb with its object; empty where neither its description nor its name says it."""
    text = " ".join(re.sub(r"[{}*`\"]", "", _SPECIAL.sub(" ", tool.description)).split())
    text = _SENTENCE_END.split(_PREAMBLE.sub("", text), maxsplit=1)[0].strip(" ,-")
    first, _, rest = text.partition(" ")
    if text and len(text) <= _MAX_TASK_CHARS and rest:
        if verb := _verb(first, rest):
            return f"{verb} {rest}"
        verb = (words_of(tool.name) or [""])[0]
        verb = verb if verb in _GETTING else ""
        if first.lower() not in _NO_VERBS and not _base(first.lower()) and (verb or _THING.match(text)):
            thing = text if text[1:2].isupper() else text[:1].lower() + text[1:]
            return f"{verb or 'get'} {'' if thing.startswith(_DETERMINED) else 'the '}{thing}"
        if first.lower() in _ASKING and not _INVERTED.match(rest):
            return f"tell {first.lower()} {rest}"
    words = words_of(tool.name)
    if len(words) < 2 or any(len(word) < 2 or word.isdigit() for word in words):
        return ""
    if words[0] in _VERBS and (words[0] not in _NOUNS_TOO or words[0] in _VERBS_IN_FRONT):
        return " ".join(words)
    # "calendar.create", not "model_predict".
    return " ".join([words[-1], *words[:-1]]) if "." in tool.name and words[-1] in _VERBS - _NOUNS_TOO else ""


def _verb(first: str, rest: str) -> str:
    """The verb at the start of a description; empty where it starts with something else."""
    word, has_object = first.lower(), rest.lower().startswith(_OBJECT_STARTS)
    base = _base(word)
    if word in _NO_VERBS or ((base in _NOUNS_TOO or word.endswith("ing")) and not has_object):
        return ""
    return base or (re.sub(r"(?<=[^s])s$", "", word) if has_object and word.isalpha() else "")


def is_verb(word: str) -> bool:
    """Whether a word is one of the verbs that functions are described with."""
    return word in _VERBS


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
    if task.split(" ")[0] in _GETTING or gives:
        return {}, []
    done = {"status": "success", "reference_number": "@record"}
    return done, ["Done. The reference number is {reference_number}.", "That worked, reference {reference_number}.",
                  "It is done (status {status}, reference {reference_number})."]  # fmt: skip


def _values_of(gives: Mapping[str, Any], required: Sequence[str]) -> JsonObject:
    """Makers for the plain values of a result; an argument that comes back is the same."""
    properties = gives.get("properties") if gives.get("type", "object") == "object" else {"result": gives}
    out: JsonObject = {}
    for name, schema in (properties or {}).items():
        if not isinstance(schema, dict) or not SLOT.fullmatch(f"{{{name}}}") or len(out) == _MOST_GIVEN:
            continue
        maker = maker_of(name, schema, known_only=True)
        if name in required:
            out[name] = f"{{{name}}}"
        elif maker == "enum" and not any("|" in value for value in schema["enum"]):
            out[name] = f"@pick {'|'.join(schema['enum'])}"
        elif maker not in (SCHEMA, "boolean", "enum"):
            out[name] = f"@{maker}"
    return out
