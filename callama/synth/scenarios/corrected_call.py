"""A tool refuses an argument and says what it would take: the assistant calls again with that. The
user misspelt a name or wrote a code in small letters, so the first call was right as far as one could know."""

from __future__ import annotations

import random

from callama.contract.messages import JsonObject
from callama.synth.catalogue import ToolSpec
from callama.synth.names import words_of
from callama.synth.speech import Ask, ask, called, make_values, manners
from callama.synth.stage import Calls, NoFitError, Results, Say, Scene, Stage, Turn, User, answer_from, result_of
from callama.synth.ways import misspelt

_NAMES = frozenset((
    "city", "country", "restaurant", "hotel", "company", "product", "title", "ingredient", "dish", "course",
    "team_name", "language", "place", "full_name", "mountain", "river", "lake", "newspaper", "job", "subject",
    "exercise",
))  # fmt: skip
# Who makes something new gives it any name: no tool can know better.
_CREATING = frozenset(("add", "create", "enter", "hire", "invite", "make", "open", "post", "record", "register", "save",
                       "start", "write"))  # fmt: skip


def corrected_call(stage: Stage) -> Scene:
    """Request → call → error that names the right value → corrected call (→ result → answer)."""
    rng = stage.rng
    spec = stage.pick(_correctable)
    path = rng.choice(_correctable(spec))
    right = make_values(spec, rng)
    wrong = _wrong(str(right[path]), spec.makers[path], rng)
    if wrong == right[path]:
        raise NoFitError
    first = ask(spec, rng, {**right, path: wrong}, answered=True)
    second = Ask(spec, first.text, {p: right[p] for p in first.flat})
    turns: list[Turn] = [
        User(manners(first, rng)), Calls((first,)), Results((_error(called(spec, path), wrong, right[path], rng),)),
        Calls((second,)),
    ]  # fmt: skip
    if spec.answers and rng.random() < 0.5:
        result = result_of(second, rng)
        lead = rng.choice(("{} was not found, so I took {}. ", "I read {} as {}. ", "{} is written {}. "))
        turns += [Results((result,)), Say(lead.format(wrong, right[path]) + answer_from(second, result, rng))]
    offered = [spec, *stage.others(stage.count(65, 25, 10), [spec])]
    return Scene(tuple(offered), tuple(turns))


def _correctable(spec: ToolSpec) -> list[str]:
    known = frozenset() if {spec.task.split(" ")[0], *words_of(spec.name)} & _CREATING else _NAMES
    # Of a code the tool knows which there are; an account elsewhere (an IBAN) it does not.
    codes = {p for p in spec.required_leaves if spec.makers[p].startswith("code ") and "iban" not in words_of(p)}
    return sorted(codes | {p for p in spec.required_leaves if spec.makers[p] in known})


def _wrong(value: str, maker: str, rng: random.Random) -> str:
    if maker.startswith("code "):
        return value.lower()
    words = value.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 3 and word[1:].isalpha()]
    if not long:
        return value
    at = rng.choice(long)
    words[at] = misspelt(words[at], rng)
    return " ".join(words)


def _error(name: str, wrong: str, right: str, rng: random.Random) -> JsonObject:
    forms: tuple[JsonObject, ...] = (
        {"error": f'unknown {name} "{wrong}"', "did_you_mean": right},
        {"status": "error", "message": f"No {name} matches {wrong}.", "suggestions": [right]},
        {"ok": False, "error": {"code": "NOT_FOUND", "value": wrong, "closest": right}},
        {"error": f"{wrong} is not a valid {name}, expected {right}"},
    )
    return rng.choice(forms)
