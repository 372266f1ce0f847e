"""A request without one of its values, where what is left is surely whole: a phrase with a preposition, an item of a
list of labels, or a sentence of its own ("The date is …") goes; everything else is left alone.

Grammar is not parsed. What cannot be recognised by these few forms is refused, so that few requests are shortened and
hardly any is mutilated.
"""

from __future__ import annotations

import re

from callama.synth.own_task import is_verb

_PREPOSITIONS = "in|for|from|to|on|at|until|called|named|near|via|into"
_END = r"(?=\s*(?:[.,;?!](?:\s|$)|$)|\s+(?:in|for|from|on|at|until|with|please)\s)"
# A person who corrects himself, or takes up what was said before.
_TURNS = re.compile(
    r"\b(?:no|not|wait|sorry|actually|mean|meant|instead|scratch|rather|forget|never ?mind|make (?:it|that)|correction|"
    r"oops|change[ds]?|again|same|(?<!hi )(?<!hey )there|both|either|neither|between|than|versus|vs|but|respectively|"
    r"its?|it's)\b",
    re.IGNORECASE,
)
# Words before a preposition that are nothing without it, or no noun: "to be at", "look for", "my", "it is in".
_NEEDY = re.compile(
    r"(?:be|is|are|was|were|am|been|do|does|go|goes|get|gets|come|comes|look|looking|wait|belongs?|listen|amounts?|"
    r"i|me|we|us|you|he|she|it|they|my|your|our|the|a|an|this|that|these|those|and|or|so|up|out|off|down|over|"
    r"born|due|close|next|equal|prior|according|compared|related|similar|set|put|switch|turn|change|access|way|directions?|"
    r"[\w]*'(?:m|re|s|ll|ve|d)|\w+ing|\w+ed|\w+ly)",
    re.IGNORECASE,
)
# "I was born", "It is made": a participle without its complement.
_BEING = re.compile(r"(?:\b(?:be|is|are|was|were|am|been|being|got)|'(?:m|re|s))(?:\s+\w+ly)?\s*$", re.IGNORECASE)
_HOLDING = re.compile(
    r"\b(?:put|place|have|has|had|having|live|lives|stay|stays|leave|leaves|belongs?|lies?)\b", re.IGNORECASE
)
_POLITE = re.compile(
    r"\b(?:hi|hey|hello|there|good (?:morning|day|evening|afternoon)|ok|please|thanks?|thank you|cheers|can|could|"
    r"would|you|for me|i|need|want|like)\b",
    re.IGNORECASE,
)
_MIN_WORDS = 3
_WORD = re.compile(r"[^\W\d_]+")


def without_value(text: str, name: str, value: str) -> str | None:
    """The request without ``value``, which stands in it once and is called ``name``; None where no form fits."""
    if _TURNS.search(text.replace(value, "", 1)) or "\n" in text.strip():
        return _without_item(text, name, value)
    return (
        _without_item(text, name, value) or _without_sentence(text, name, value) or _without_phrase(text, name, value)
    )


def _without_item(text: str, name: str, value: str) -> str | None:
    """``city: Oslo; day: Monday`` loses one of its items."""
    item = rf"{re.escape(name)}: {re.escape(value)}"
    items = re.findall(r"(?:^|[:;,(\n-] ?)([\w ]{1,40}): [^;,\n]+", text)
    if len(items) < 2:
        return None
    for form in (rf"(?<=[;,\n]) ?{item}\n?(?=$)", rf"{item}(?:; |, |\n)", rf"(?:; |, |\n){item}(?=[;,\n)]|$)"):
        short, count = re.subn(form, "", text, count=1, flags=re.IGNORECASE)
        if count:
            return short.rstrip(" ;,\n")
    return None


def _without_sentence(text: str, name: str, value: str) -> str | None:
    """``The day is Monday.`` goes as a whole."""
    form = (
        rf"(?:^|(?<=[.?!]\s))(?:the|my|our) (?:\w+ )?{re.escape(name)} (?:is|are|should be) "
        rf"[\"']?{re.escape(value)}[\"']?[.!](?:\s|$)"
    )
    short, count = re.subn(form, "", text, count=1, flags=re.IGNORECASE)
    return short.strip() if count and _whole(short) else None


def _without_phrase(text: str, name: str, value: str) -> str | None:
    """``Book a table in Oslo for 4`` loses ``in Oslo``."""
    form = (
        rf"(?P<before>[\w'-]+)\s+(?:{_PREPOSITIONS})\s+(?:the\s+)?(?:{re.escape(name)}\s+)?"
        rf"[\"'“]?{re.escape(value)}[\"'”]?{_END}"
    )
    found = re.search(form, text, re.IGNORECASE)
    if not found or _HOLDING.search(text):
        return None
    before = found["before"]
    head = re.split(r"[.?!;:]\s", text[: found.end("before")])[-1]
    if _BEING.search(text[: found.start("before")]):
        return None
    if _NEEDY.fullmatch(before) or is_verb(before.lower()) or len(_POLITE.sub("", head).split()) < 2:
        return None
    short = text[: found.end("before")] + text[found.end() :]
    return short if _whole(short) else None


def _whole(text: str) -> bool:
    return len(_WORD.findall(_POLITE.sub("", text))) >= _MIN_WORDS
