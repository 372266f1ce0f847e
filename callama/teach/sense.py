"""What can be judged of a teacher's words without a model: echoes of the instruction, words of nonsense, values that
had to be said or to be missing, questions that do not ask, refusals that do not refuse, deeds that no call did.

The lists are English and short. They refuse rather too much: what is refused costs two requests,
what is wrongly kept is learned.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, JsonObject, Message, ToolCall
from callama.data.grounding import audit
from callama.data.quarantine import DropError
from callama.synth.augment.akin import may_do, share_words
from callama.synth.speech import label
from callama.teach.plan import ALSO, ASSISTANT, Plan, Wish
from callama.teach.reasons import Refusal

_ECHO = 5  # words in a row that nobody but the instruction would say
_WORD = re.compile(r"\w+")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
a about all an and any are as at be but by can could do does for from get give good have hello help hey hi how i in
is it its just like me my need of on or our please some tell thank thanks that the there this to want was we what
when where which who why will with would you your
""",
    )
)
_PAST = (
    r"(?!(?:need|feed|proceed|succeed|exceed|speed)\b)(?:\w+ed|made|sent|put|set|found|paid|bought|written|taken|begun)"
)
_SURELY = r"(?: (?:just|now|all|also|already|successfully|then|gone ahead and))*"
_CLAIM = re.compile(
    rf"^\W*(?:all |it's |that's |it is )?(?:done|all set)\b|\b(?:i|we)(?:'ve| have){_SURELY} (?:{_PAST}|done)\b|"
    rf"\b(?:i|we){_SURELY} (?!put|set)(?:{_PAST}|did)\b|\b(?:has|have){_SURELY} been {_PAST}\b|"
    r"\b(?:is|are)(?: now| all| already)* (?:booked|confirmed|scheduled|reserved|cancelled|canceled|ordered|sent|"
    rf"deleted|created|updated|saved|paid|done|complete|completed|on its way)\b|"
    rf"\byour [\w ]{{1,40}} (?:was|were) {_PAST}\b|"
    r"\bsuccessfully\b|\bhere(?:'s| is| are) your\b|\bconfirmation (?:number|code|id)\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:cannot|unable|none|lack|beyond|outside|sorry|unfortunately|afraid|not|\w+n't)\b|"
    r"\bno (?:\w+ )?(?:tools?|functions?|way|means|access|ability)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[^.!?\n]*\?")
_FIGURE = re.compile(r"\d+")
_LIST_MARK = re.compile(r"^\s*\d+[.)] ", re.MULTILINE)
# A capital inside a sentence, or a digit, is a name or a value.
_VALUE_LIKE = re.compile(r"(?<![.!?:\n] )(?<!\n)(?<!^)\b(?!I\b)[A-Z]\w*|\b\w*\d\w*")
_COUNTED = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twenty|thirty|forty|fifty|hundred|thousand)\b"
)
_TIMED = re.compile(
    r"\b(?:today|tomorrow|tonight|now|noon|midnight|morning|afternoon|evening|next \w+|\w+day|weekend)\b"
)
# Parts of parameters' names that small talk is full of: "the first man on the moon", "in which order".
_EVERYDAY = frozenset(
    re.findall(
        r"\w+",
        """
active age amount body color colour comment content count day description first format full group hour id key kind
label language last level limit long max maximum message min minimum minute mode month next note order page person
place query reason size sort source state status subject target title topic total unit units week weight word words year
years
""",
    )
)
# How people ask for a parameter without its name, by words of its name.
_TIMES = frozenset(("date", "day", "time", "start", "end", "when", "due", "deadline", "until", "since"))
_PLACES = frozenset(("city", "place", "location", "address", "destination", "origin", "country", "from", "to", "where"))
_PEOPLE = frozenset(("name", "recipient", "person", "user", "customer", "guest", "author", "to", "who"))
_ASKED = ((_TIMES, ("when", "date", "day", "time")), (_PLACES, ("where",)), (_PEOPLE, ("who", "whom", "whose")))
_NUMBERS_ASKED = ("much", "many", "long", "often", "old", "far", "high", "number", "amount")


def bare_words(text: str) -> str:
    """A text without case and punctuation: what makes two texts the same."""
    return " ".join(_WORD.findall(text.casefold()))


def check_request(plan: Plan, request: str) -> None:
    """Lets a user's message pass that may be one.

    Raises:
        DropError: it is the instruction's, or nonsense; it lacks a value, or says the one that was to be missing; or it
            may ask for what a tool does where none is to be called.
    """
    _check_echo(plan, request)
    if any(wish.said and _within(wish.text, request) for wish in plan.wishes):
        raise DropError(Refusal.INSTRUCTION, "", request)
    _check_sense(plan, request)
    if plan.scenario == "plain_chat" and any(may_do(tool, (), request, _EVERYDAY) for tool in plan.tools):
        raise DropError(Refusal.TOOL_WANTED, "", request)
    for wish in plan.wishes:
        if unsaid := _unsaid(wish, request):
            raise DropError(Refusal.VALUE_UNSAID, unsaid, request)
        if wish.gap and (filled := _filled(wish, request)):
            raise DropError(Refusal.GAP_FILLED, filled, request)


def check_words(plan: Plan, request: str, answer: str) -> None:
    """Lets an answer in words pass that plays its scenario and claims nothing.

    Raises:
        DropError: it does not.
    """
    _check_echo(plan, answer)
    _check_sense(plan, answer)
    plain = answer.replace("’", "'")
    if claim := _CLAIM.search(plain):
        raise DropError(Refusal.CLAIMED, claim[0], answer)
    if plan.scenario == "plain_chat":
        return  # what everybody knows may hold figures
    given = set(_FIGURE.findall(request + dumps([tool.to_dict() for tool in plan.tools])))
    if invented := [figure for figure in _FIGURE.findall(_LIST_MARK.sub("", answer)) if figure not in given]:
        raise DropError(Refusal.CLAIMED, invented[0], answer)
    if plan.scenario == "decline" and not _DENIAL.search(plain):
        raise DropError(Refusal.NOT_DECLINED, "", answer)
    if plan.scenario == "missing_argument" and not any(_asks(wish, answer) for wish in plan.wishes):
        raise DropError(Refusal.NO_QUESTION, "", answer)


def _check_echo(plan: Plan, text: str) -> None:
    words = bare_words(text).split()
    source = " | ".join(bare_words(told) for told in (plan.told, ALSO, ASSISTANT))
    for start in range(len(words) - _ECHO + 1):
        run = " ".join(words[start : start + _ECHO])
        if f" {run} " in f" {source} ":
            raise DropError(Refusal.INSTRUCTION, run, text)


def _check_sense(plan: Plan, text: str) -> None:
    """Words in letters other than ASCII's are not judged."""
    words = bare_words(text).split()
    if len(words) < 3 or not text.isascii() or not _COMMON.isdisjoint(words):
        return
    known = bare_words(" ".join([dumps([tool.to_dict() for tool in plan.tools]), *(w.text for w in plan.wishes)]))
    if not share_words({w for w in words if len(w) > 2}, set(known.split())):
        raise DropError(Refusal.NONSENSE, "", text)


def _within(part: str, text: str) -> bool:
    return f" {bare_words(part)} " in f" {bare_words(text)} "


def _unsaid(wish: Wish, request: str) -> str:
    """The name of a value that was to be said and is not. Codes and choices, which a call of unknown origin may hold
    unsaid, were to be said as well: an example out of a description is no value of the user's."""
    call = ToolCall(wish.spec.name, dict(wish.said), "call_0")
    tool = replace(wish.spec.tool, parameters=_without_choices(wish.spec.tool.parameters))
    said = Conversation((Message("user", request), Message("assistant", None, (call,))), (tool,))
    return next((a.path for a in audit(said) if a.ground in ("ungrounded", "code")), "")


def _without_choices(schema: Any) -> Any:
    """A schema whose choices and defaults are values like any others: they may be said in other forms as well."""
    if not isinstance(schema, dict):
        return [_without_choices(item) for item in schema] if isinstance(schema, list) else schema
    kept = {key: value for key, value in schema.items() if key not in ("enum", "default")}
    return {
        key: {name: _without_choices(inner) for name, inner in value.items()}
        if key == "properties" and isinstance(value, dict)
        else _without_choices(value)
        for key, value in kept.items()
    }


def _filled(wish: Wish, request: str) -> str:
    """What may be the value that was to be missing: its name, one of its choices, or what looks like a value, unless
    the instruction said it."""
    schema: JsonObject = wish.spec.tool.parameters["properties"][wish.gap]
    choices = [str(choice) for choice in schema.get("enum", ()) if not isinstance(choice, bool | None)]
    told = [label(wish.gap), *choices]
    low = request.lower()
    told += _VALUE_LIKE.findall(request)
    if schema.get("type") != "string":
        told += _COUNTED.findall(low)
    if _is_time(wish.gap, schema):
        told += _TIMED.findall(low)
    return next((words for words in told if _within(words, request) and not _within(words, wish.text)), "")


def _is_time(name: str, schema: JsonObject) -> bool:
    return "format" in schema or not _TIMES.isdisjoint(label(name).lower().split())


def _asks(wish: Wish, answer: str) -> bool:
    """Whether a question is about what is missing."""
    schema: JsonObject = wish.spec.tool.parameters["properties"][wish.gap]
    asked = set(bare_words(" ".join(_QUESTION.findall(answer))).split())
    if not asked or schema.get("type") == "boolean":
        return bool(asked)
    name = bare_words(label(wish.gap)).split()
    about = {w for w in bare_words(schema.get("description", "")).split() if len(w) > 3} - _COMMON
    about |= {*name, *(word for names, words in _ASKED if not names.isdisjoint(name) for word in words)}
    about |= {"when", "time", "date"} if "format" in schema else set()
    about |= set(_NUMBERS_ASKED) if schema.get("type") in ("integer", "number") else set()
    return share_words(asked, about)
