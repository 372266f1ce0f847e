"""What a function does, in words: a verb with its object, read off its description, else off its name.

English has no sure sign of a verb, so a list of them decides, and words that are nouns as often count only with an
object behind them. Where nothing is sure, nothing is said.
"""

from __future__ import annotations

import re

from callama.contract.messages import Tool
from callama.synth.names import words_of

GETTING_VERBS = frozenset(("get", "find", "list", "search", "show", "fetch", "retrieve", "read", "look", "lookup",
                           "query", "view", "check", "calculate", "compute", "return", "count", "estimate",
                           "compare"))  # fmt: skip
# Done when it is done: all that is to be said of them is that they worked. What gives something to read ("write",
# "generate", "run a query") is none of them.
ACTING_VERBS = frozenset(
    re.findall(
        r"\w+",
        """
accept activate add adjust allocate append approve archive assign attach authorize begin bill block book buy cancel
change charge clear close commit complete configure confirm connect copy create deactivate debit delete deliver deploy
disable dispatch edit enable feed flag grant hide hire hold import increase insert install invite issue join launch link
lock log mark modify move mute notify open order park pause pay place plant play post publish purchase push put record
refill refund register reject release remind remove rename renew rent reply reschedule reserve reset resize restart
restore resume revoke save schedule send set share ship start stop store submit subscribe switch tag toggle
transfer trigger turn unblock unlock unmute unsubscribe update upgrade upload wash water withdraw
""",
    )
)
# Whatever they give follows from what they were given.
WORKING_VERBS = frozenset(
    re.findall(
        r"\w+",
        """
analyse analyze calculate classify compare compress compute convert decode detect determine diagnose encode evaluate
explain extract filter format identify merge predict rank recommend score simulate solve sort split suggest summarise
summarize transform translate validate verify
""",
    )
)
# What is made to be read or worked out, whatever the verb: "create a summary", "add two numbers", "post and return".
_TO_READ = re.compile(
    r"\b(?:summary|summaries|translations?|analys[ei]s|predictions?|forecasts?|estimates?|quotes?|reports?|charts?|graphs?|"
    r"images?|passwords?|hash|poem|story|essay|text|answers?|lists?|plans?|sums?|numbers|integers|values|vectors|matrix|"
    r"matrices|fractions|returns?|returning|gets?|tells?|shows?)\b"
)
# Descriptions that talk about the function instead of saying what it does.
_PREAMBLE = re.compile(
    r"^(?:(?:this|the) (?:function|tool|endpoint|operation|method|api|call)\s+(?:is used to|allows (?:you|users?) to|"
    r"lets (?:you|users?)|can be used to|will|is for)?\s*|(?:used to|use this (?:function|tool|endpoint)? ?to|"
    r"allows (?:you|users?) to|lets (?:you|users?)|api (?:to|for)|"
    r"an? (?:function|tool|endpoint) (?:to|that|which))\s+)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?:;](?:\s|$)|\n| \(")
# Nouns as often as verbs: "order status", "feed times". With an object behind them they are verbs.
_NOUNS_TOO = frozenset(
    re.findall(
        r"\w+",
        """
bill book capture change charge check cook copy count debit design display download draft draw exchange export extract
feed filter find finish fix flag fly format grant hire hold import increase index invite issue launch link list
load lock log look mark match measure merge mute order park pause pay pick ping place plan plant post preview print
process purchase query quote rank rate record refund register release remind rent report request reserve return review
route run scale scan schedule score search share ship sign sort split start stop store submit switch sync tag test
track transfer transform trigger turn update upgrade upload use view wash water
""",
    )
) - frozenset(re.findall(r"\w+", "find list pay remind register search start stop submit turn update upload use"))
# What none of the lists above holds. All that they hold are verbs as well, so that no list can disagree.
_VERBS = (
    GETTING_VERBS
    | ACTING_VERBS
    | WORKING_VERBS
    | _NOUNS_TOO
    | frozenset(
        re.findall(
            r"\w+",
            """
apply ask authenticate build call choose clean define divide drive end execute fill flip generate give inspect invoke
like make manage multiply perform provide rebuild receive refresh render replace resolve roll rotate round select
subtract use write
""",
        )
    )
)
_VERBS_IN_FRONT = frozenset(("book", "check", "copy", "count", "download", "export", "extract", "print", "schedule",
                             "track"))  # fmt: skip
# Behind one of these a word is the noun that it may be: "Refund policy", "Transfer status", "Record of a patient".
_BEHIND_A_NOUN = re.compile(
    r"(?:of|for|on|in|at|by|from|with|to|about|between|is|are|that|which|and|or|status|states?|details?|info|"
    r"information|lookup|look-up|numbers?|names?|ids?|codes?|polic(?:y|ies)|rules?|finder|search|lists?|history|music|"
    r"results?|rates?|prices?|dates?|times?|types?|data|settings?|options?|summary|reports?|overview|calculator|"
    r"checker|tracker|tracking|manager|management|service|tool|api|endpoint|function|limits?|methods?)\b(?!-)",
    re.IGNORECASE,
)
# ... but many of these are what is worked on or carried: "Sort numbers by size", "Import data from a file".
_CARRYING = WORKING_VERBS | frozenset(("import", "export", "copy", "load", "download", "upload", "print", "process"))
_MANY = re.compile(
    r"(?:numbers|names|ids|codes|lists|results|rates|prices|dates|times|data|reports)\b(?!-)", re.IGNORECASE
)
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


def only_acts(task: str) -> bool:
    """Whether of what a task does nothing is to be told but that it is done."""
    verb, _, rest = task.partition(" ")
    return verb in ACTING_VERBS and not _TO_READ.search(rest.lower())


def verb_phrase(tool: Tool) -> str:
    """What a function does as a verb with its object; empty where neither its description nor its name says it."""
    text = " ".join(re.sub(r"[{}*`\"]", "", _SPECIAL.sub(" ", tool.description)).split())
    text = _SENTENCE_END.split(_PREAMBLE.sub("", text), maxsplit=1)[0].strip(" ,-")
    first, _, rest = text.partition(" ")
    if text and len(text) <= _MAX_TASK_CHARS and rest:
        if verb := _verb(first, rest) or _own_verb(tool, first, rest):
            return f"{verb} {rest}"
        verb = (words_of(tool.name) or [""])[0]
        verb = verb if verb in GETTING_VERBS else ""
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


def _own_verb(tool: Tool, first: str, rest: str) -> str:
    """The verb that a function's name and description both begin with: "Transfer money to somebody" of `transfer`. The
    "Order status" of `order_status` only repeats the name."""
    own, *others = words_of(tool.name) or [""]
    repeats = bool(others) and words_of(rest.lower())[:1] == others[:1] and first.lower() == own
    if own in _NOUNS_TOO and _BEHIND_A_NOUN.match(rest) and not (own in _CARRYING and _MANY.match(rest)):
        return ""
    return own if own in _VERBS and _base(first.lower()) == own and not repeats else ""


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
