"""How a user says a request: sentences with slots filled, optional wishes added, manners varied.

Everything that a call will hold is said here, word for word or by a phrase of the catalogue; what
is not said is not in the call. That rule is what makes the right call decidable from the dialogue.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.messages import JsonObject
from callama.synth import moments, ways
from callama.synth.catalogue import OWN, SLOT, ToolSpec, make_value, nested, slots
from callama.synth.facts import fact
from callama.synth.moments import long_date
from callama.synth.schema_makers import SCHEMA
from callama.synth.schema_values import spoken

_OPTIONAL = 0.45
_IN_WORDS, _FORM, _TWO_SENTENCES, _FROM_TODAY, _SLIP = 0.07, 0.07, 0.07, 0.06, 0.03
_OPENERS = ("Hi, ", "Hey, ", "Hello, ", "Hi there! ", "Hello! ", "Good morning. ", "OK, ", "Quick one: ", "Hey! ")
_CLOSERS = (" Thanks!", " Thank you.", " Thanks a lot!", " That would help me a lot.", " Cheers!")
_ARTICLED = re.compile(r"(?:(?<!\w)([Aa])n? )?" + SLOT.pattern)
# Words that start with a vowel's sound, whatever the letter is.
_OPEN_SOUND = re.compile(r"(?!uni(?!n|m)|us[ae]|ur[aiu](?!ban)|ut[ei]l|u[ke]|eu|one\b|once\b)[aeiou]|hour|honest|heir")
_UNITS = {
    "kg": "in kg", "g": "in grams", "grams": "in grams", "cm": "in cm", "mm": "in mm", "m": "in metres",
    "metres": "in metres", "km": "in km", "ml": "in ml", "m2": "in square metres", "kwh": "in kWh", "hz": "in hertz",
    "minutes": "in minutes", "celsius": "in degrees Celsius", "newton": "in newtons", "ms": "in metres per second",
}  # fmt: skip
_CAPITALS = {
    "iban": "IBAN",
    "isbn": "ISBN",
    "url": "URL",
    "sku": "SKU",
    "ph": "pH",
    "ip": "IP",
    "vm": "VM",
    "pin": "PIN",
}
_END = re.compile(r",? please[.?!]?$|[.?!]$")
_OPEN_END = re.compile(r": \{[\w.]+\}[.?!]?$")


class NoFitError(Exception):
    """No tool, or no value, has the property that a scenario needs."""


@dataclass(frozen=True)
class Ask:
    """A request in words and the call that it asks for.

    ``flat`` has the arguments by path; ``firm`` says that the text starts with a value, whose
    first letter must stay as it is.
    """

    spec: ToolSpec
    text: str
    flat: Mapping[str, Any]
    firm: bool = False

    @property
    def arguments(self) -> JsonObject:
        """The arguments as the call holds them."""
        return nested(self.flat)


def make_values(spec: ToolSpec, rng: random.Random) -> dict[str, Any]:
    """A value for every parameter; two of the same kind differ (a journey ends elsewhere).

    Raises:
        NoFitError: one of a user's own functions cannot be made this once.
    """
    made: dict[str, Any] = {}
    for path in spec.leaves:
        rivals = [made[p] for p in made if _kind(spec, p) == _kind(spec, path)]
        for _ in range(10):
            value = _made(spec, path, rng, made)
            if value not in rivals or isinstance(value, bool):
                break
        made[path] = value
    return made


def _made(spec: ToolSpec, path: str, rng: random.Random, known: Mapping[str, Any]) -> Any:
    """A value for one parameter. One of a user's own functions that cannot be made this once ends no run: another draw
    may do. In the built-in catalogue it is an error of ours.

    Raises:
        NoFitError: it cannot be made.
    """
    try:
        return make_value(spec, path, rng, known)
    except CallamaError:
        if spec.side != OWN:
            raise
        raise NoFitError from None


def changed(spec: ToolSpec, flat: Mapping[str, Any], paths: Collection[str], rng: random.Random) -> dict[str, Any]:
    """The same values but for ``paths``, which are made anew and fit the rest: an end stays behind its start, and
    nothing is converted into itself. Paths that ``flat`` lacks are added.

    Raises:
        NoFitError: too few values are possible.
    """
    for _ in range(60):
        out = dict(flat)
        for path in spec.leaves:
            if path in paths:
                out[path] = _made(spec, path, rng, out)
        new = all(out[p] != flat.get(p) for p in paths if p in flat)
        if new and _in_order(spec, out) and not _repeats(spec, out, paths):
            return {p: out[p] for p in spec.leaves if p in out}
    raise NoFitError


def _in_order(spec: ToolSpec, flat: Mapping[str, Any]) -> bool:
    """Whether values that depend on each other (``later_date start 3 40``) still agree."""
    for path, value in flat.items():
        kind, *rest = spec.makers[path].split(" ")
        base = flat.get(rest[0]) if rest else None
        if base is None:
            continue
        if kind in ("later_time", "more", "above") and not base < value:
            return False
        if kind in moments.LATER and not moments.are_in_order(kind, rest, base, value):
            return False
        if kind == "as_many" and len(base) != len(value):
            return False
        if kind == "country_of" and fact("country_of", base) not in (None, value):
            return False
    return True


def _repeats(spec: ToolSpec, flat: Mapping[str, Any], paths: Collection[str]) -> bool:
    """Whether a text of ``paths`` is that of another parameter of its kind. Numbers and flags may be alike: two legs
    of a triangle, two marks."""
    return any(
        flat[p] == flat[q] and _kind(spec, p) == _kind(spec, q)
        for p in paths
        if isinstance(flat.get(p), str)
        for q in flat
        if q != p
    )


def dates_of(spec: ToolSpec, flat: Mapping[str, Any]) -> dict[str, str]:
    """The dates among the values, by path; not those of a schema's own examples, which may be written anyhow."""
    return {p: v for p, v in flat.items() if spec.leaves[p].get("format") == "date" and spec.makers[p] != SCHEMA}


def _kind(spec: ToolSpec, path: str) -> tuple[str, Any]:
    return spec.makers[path], spec.leaves[path].get("enum")


def join(parts: Sequence[str], word: str = "and") -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def say_value(spec: ToolSpec, path: str, value: Any, rng: random.Random) -> str:
    """A value in the user's words."""
    said = spec.says.get(path, {}).get(str(value).lower() if isinstance(value, bool) else str(value))
    if said:
        return rng.choice(said)
    if spec.makers[path] == SCHEMA:
        return spoken(value)
    if isinstance(value, list):
        each = spec.says.get(path, {}).get("each")
        return join([_say_object(each, v, rng) if each else str(v) for v in value])
    if spec.leaves[path].get("format") == "date" and rng.random() < 0.2:
        return long_date(value)
    if isinstance(value, float) and spec.makers[path] == "price":
        return f"{value:.2f}"
    return str(value)


def _say_object(each: Sequence[str], value: JsonObject, rng: random.Random) -> str:
    return put(rng.choice(each), lambda name: str(value[name]))


def _sounds_open(word: str) -> bool:
    """Whether "an" stands before a word: an hour, an 8 day trip, an MX record."""
    if number := re.match(r"\d+", word):
        digits = number[0]
        return digits.startswith("8") or (digits.startswith(("11", "18")) and len(digits) in (2, 5))
    if re.match(r"[A-Z](?:[A-Z\d-]|$)", word):
        return word[0] in "AEFHILMNORSX"
    return bool(_OPEN_SOUND.match(word.lower()))


def one_mark(text: str) -> str:
    """A sentence that does not end twice because a value in it has its own mark."""
    return re.sub(r"([.!?])\.(?= |$)", r"\1", text)


def put(template: str, say: Callable[[str], str]) -> str:
    """A sentence with its slots filled by ``say``; an "a" before a slot becomes "an" where the value wants it."""

    def one(slot: re.Match[str]) -> str:
        value = say(slot[2])
        if not slot[1]:
            return value
        return f"{slot[1]}{'n' if _sounds_open(value) else ''} {value}"

    return _ARTICLED.sub(one, template)


def fill(template: str, spec: ToolSpec, flat: Mapping[str, Any], rng: random.Random) -> str:
    """A sentence with its slots filled."""

    def say(path: str) -> str:
        if spec.makers[path].startswith("int ") and rng.random() < _IN_WORDS:
            before, after = template.split(f"{{{path}}}", 1)
            if word := ways.number_word(flat[path], before, after):
                return word if before else word.capitalize()
        return say_value(spec, path, flat[path], rng)

    return put(template, say)


def lower_start(asked: Ask) -> str:
    """The request as it stands behind other words; a value, an "I" and a name in capitals stay."""
    if asked.firm or re.match(r"I\b|[A-Z]{2}", asked.text):
        return asked.text
    return asked.text[:1].lower() + asked.text[1:]


def _is_sentence(phrase: str) -> bool:
    return phrase[-1:] in ".!?"


def attach(text: str, phrase: str) -> str:
    """Adds a wish to a request: a whole sentence behind it, anything else before its last mark or "please"."""
    if _is_sentence(phrase):
        return f"{text}{'' if text[-1:] in '.!?' else '.'} {phrase}"
    end = _END.search(text)
    at = end.start() if end else len(text)
    return f"{text[:at]} {phrase}{text[at:]}"


def ends_open(template: str) -> bool:
    """Whether a template ends in free text, which would swallow what is added behind it."""
    return bool(_OPEN_END.search(template))


def wishes(
    spec: ToolSpec, template: str, flat: Mapping[str, Any], rng: random.Random, *, answered: bool = False
) -> dict[str, str]:
    """Optional parameters to ask for beside a template, with their phrases; where a result is played, only what it
    can answer."""
    if ends_open(template):
        return {}
    used = {s.split(".")[0] for s in slots(template)}
    free = [n for n in spec.optional if n not in used and n not in spec.required]
    rng.shuffle(free)
    chosen = [n for n in free if rng.random() < _OPTIONAL][:2]
    if answered:
        chosen = [n for n in chosen if n not in spec.no_result_with or not flat[n]]
    picked = [(n, fill(rng.choice(spec.optional[n]), spec, flat, rng)) for n in chosen]
    # Fragments first: behind a full sentence they would hang in the air.
    return dict(sorted(picked, key=lambda pair: _is_sentence(pair[1])))


def ask(
    spec: ToolSpec,
    rng: random.Random,
    flat: Mapping[str, Any] | None = None,
    template: str = "",
    *,
    alone: bool = False,
    answered: bool = False,
) -> Ask:
    """A request for a tool. ``flat`` gives the values, ``template`` the sentence; else both are drawn.
    A request that is ``alone`` in its conversation may say which day today is, and count from there. One that is
    ``answered`` by an invented result asks for nothing that this does not hold."""
    flat = flat or make_values(spec, rng)
    own_words = not template
    if own_words:
        draw = rng.random()
        if draw < _FORM and _fits_form(spec):
            return _form(spec, flat, rng)
        if draw > 1 - _TWO_SENTENCES:
            template = ways.in_two_sentences(spec, rng)
        template = template or rng.choice(spec.requests)
    said, worded = set(slots(template)), template
    dates = ways.date_slots(spec, template)
    if alone and len(dates) == 1 and rng.random() < _FROM_TODAY:
        worded = ways.from_today(template, dates[0], flat[dates[0]], rng)
    if own_words and rng.random() < _SLIP:
        worded = ways.with_slip(worded, rng)
    text = fill(worded, spec, flat, rng)
    for name, phrase in wishes(spec, template, flat, rng, answered=answered).items():
        text = attach(text, phrase)
        said |= spec.leaves_of({name})
    return Ask(spec, text, {p: flat[p] for p in spec.leaves if p in said}, worded.startswith("{"))


def _fits_form(spec: ToolSpec) -> bool:
    return bool(spec.required_leaves) and not any(
        "." in p or spec.leaves[p].get("type") in ("boolean", "array") or spec.makers[p] == SCHEMA
        for p in spec.required_leaves
    )


def _form(spec: ToolSpec, flat: Mapping[str, Any], rng: random.Random) -> Ask:
    """``Book a table - restaurant: Casa Velmar, party size: 4``."""
    names = [p for p in spec.leaves if p in spec.required_leaves]
    head = spec.task[:1].upper() + spec.task[1:]
    between = rng.choice((", ", "; ", "\n"))
    body = between.join(f"{called(spec, p)}: {flat[p]}" for p in names)
    lead = rng.choice((". ", ": ", " - ")) if between != "\n" else "\n"
    text = f"{head}{lead}{body[:1].upper() + body[1:] if lead == '. ' else body}"
    return Ask(spec, text, {p: flat[p] for p in names})


def label(path: str) -> str:
    """A parameter's name in words: ``partySize`` → ``party size``, ``weight_kg`` → ``weight in kg``."""
    words = re.sub(r"(?<=[a-z])([A-Z])", r" \1", path).replace("_", " ").replace(".", " ").lower().split(" ")
    if len(words) > 1 and words[-1] in _UNITS:
        words[-1] = _UNITS[words[-1]]
    return " ".join(_CAPITALS.get(word, word) for word in words)


def called(spec: ToolSpec, path: str) -> str:
    """What people call a parameter of a tool."""
    return spec.labels.get(path) or label(path)


def manners(asked: Ask, rng: random.Random) -> str:
    """Small differences between people: a greeting, thanks, no capital, no full stop."""
    text = asked.text
    draw = rng.random()
    if draw < 0.12:
        opener = rng.choice(_OPENERS)
        text = opener + (text if opener[-2] in "!." else lower_start(asked))
    elif draw < 0.19 and text[-1:] in ".?!":
        text += rng.choice(_CLOSERS)
    elif draw < 0.27:
        text = lower_start(asked)
    if rng.random() < 0.12 and text[-1:] in ".?" and "\n" not in text:
        text = text[:-1]
    return text
