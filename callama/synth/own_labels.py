"""What a parameter of an own function is called in a sentence: its name in words, in quotes where it is no noun."""

from __future__ import annotations

import re

from callama.synth.speech import label as words_label

PREPOSITIONS = frozenset(("from", "to", "on", "at", "in", "by", "for", "until", "since", "after", "before", "via",
                          "near", "within", "below", "above", "between", "against", "under", "over"))  # fmt: skip
_ODD = frozenset(("left", "right", "with", "without", "of", "as", "and", "not", "any", "all", "the", "dry run", "new",
                  "old", "open", "closed", "active", "enabled", "public", "private", "what", "when", "where", "who",
                  "sort", "sort by", "order by", "group by", "max", "min", "include", "exclude", "show",
                  "hide", "due"))  # fmt: skip
# "starts_at" is the start.
_MOMENTS = re.compile(r"(start|begin|end|finish)(?:e?s)? at")


def label(name: str) -> str:
    """``starts_at`` → ``start``; a single letter in quotes: "use it with a pale bottle" names no ``a``."""
    said = words_label(name)
    if moment := _MOMENTS.fullmatch(said):
        return {"begin": "beginning"}.get(moment[1], moment[1])
    return f'"{said}"' if len(said) == 1 else said


def quoted(name: str) -> str:
    """The label, in quotes where it is no noun."""
    return f'"{words_label(name)}"' if is_odd(name) else label(name)


def is_preposition(name: str) -> bool:
    """Whether a name leads its value in: "from Oslo"."""
    return label(name) in PREPOSITIONS


def is_odd(name: str) -> bool:
    """Whether a name is no noun that could stand behind "the"."""
    said = label(name)
    ends_open = said.rsplit(" ", 1)[-1] in PREPOSITIONS
    return ends_open or said in _ODD or not re.search(r"[^\W\d_]{3}|^(?:id|ip|os|tv)$", said)


def are(name: str) -> str:
    """The verb behind a label: of a plural, or of one thing."""
    return "are" if re.search(r"[^suis]s$", label(name)) and not is_odd(name) else "is"
