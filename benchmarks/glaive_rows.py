"""Rows in the shape of glaive-function-calling-v2, from templates of our own, for speed and memory only.

The proportions follow the real file: a third of the rows have no functions, calls have their
arguments in single quotes, one row in a hundred is damaged, one in thirty repeats an earlier one,
and a row has about 2.2 kB. The same seed gives the same bytes. Nothing is ever trained on this.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

HEAD = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
PLAIN = "SYSTEM: You are a helpful assistant, with no access to external functions.\n\n"
END = " <|endoftext|>"
VERBS = ("get", "find", "create", "update", "calculate", "convert", "search", "check", "book", "track", "list", "send")
NOUNS = (
    "weather", "recipe", "invoice", "playlist", "flight", "parcel", "loan", "calendar", "garden", "museum", "battery",
    "ferry", "library", "mortgage", "pharmacy", "telescope", "orchestra", "vineyard", "lighthouse", "bakery", "glacier",
    "tournament", "aquarium", "warehouse", "translation", "insurance", "horoscope", "newsletter", "bridge", "harvest",
)  # fmt: skip
ASPECTS = ("status", "price", "report", "summary", "schedule", "rating", "history", "estimate")
PLACES = ("Oslo", "Lyon", "Quito", "Nara", "Tartu", "Cork", "Perth", "Ghent", "Sucre", "Izmir", "Hobart", "Turku")
PEOPLE = ("Ada", "Noor", "Milan", "Ines", "Tomás", "Yuki", "Olu", "Petra", "Siân", "Ravi", "Zoë", "Lech")
WORDS = (
    "river", "window", "because", "quiet", "morning", "lantern", "carefully", "several", "people", "travel", "under",
    "broken", "silver", "often", "market", "without", "story", "before", "paper", "winter", "garden", "slowly", "green",
    "between", "number", "music", "always", "mountain", "letter", "simple", "water", "answer", "follow", "distance",
    "yellow", "evening", "harbour", "colour", "thought", "second", "method", "compare", "example", "system", "little",
    "explain", "history", "surface", "language", "another", "reason", "measure", "picture", "season", "village",
)  # fmt: skip


def _sentence(rng: random.Random, length: int) -> str:
    words = rng.choices(WORDS, k=length)
    return f"{words[0].capitalize()} {' '.join(words[1:])}."


def _paragraph(rng: random.Random, n_sentences: int) -> str:
    return " ".join(_sentence(rng, rng.randint(8, 18)) for _ in range(n_sentences))


def functions(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Function declarations with one to four parameters."""
    out: dict[str, dict[str, Any]] = {}
    while len(out) < count:
        noun, aspect = rng.choice(NOUNS), rng.choice(ASPECTS)
        name = f"{rng.choice(VERBS)}_{noun}_{aspect}"
        properties: dict[str, Any] = {
            "place": {"type": "string", "description": f"Where the {noun} is"},
            "person": {"type": "string", "description": f"Who asks for the {aspect}"},
            "amount": {"type": "integer", "description": f"How many of the {noun} are meant"},
            "note": {"type": "string", "description": f"A remark about the {aspect}"},
        }
        names = rng.sample(sorted(properties), rng.randint(1, 4))
        schema = {"type": "object", "properties": {n: properties[n] for n in names}, "required": names[:2]}
        description = f"{name.replace('_', ' ').capitalize()} for a place or a person"
        out[name] = {"name": name, "description": description, "parameters": schema}
    return list(out.values())


def _arguments(rng: random.Random, function: dict[str, Any]) -> dict[str, Any]:
    values = {
        "place": rng.choice(PLACES),
        "person": rng.choice(PEOPLE),
        "amount": rng.randint(2, 900),
        "note": f"{rng.choice(PEOPLE)}'s {rng.choice(WORDS)}" if rng.random() < 0.05 else _sentence(rng, 6),
    }
    return {name: values[name] for name in function["parameters"]["properties"]}


def _call_turns(rng: random.Random, function: dict[str, Any]) -> list[str]:
    arguments = _arguments(rng, function)
    wish = ", ".join(f"{name} {value}" for name, value in arguments.items())
    result = {"status": rng.choice(WORDS), "items": [_sentence(rng, 7) for _ in range(rng.randint(1, 4))]}
    task = function["name"].replace("_", " ")
    asked = f"USER: {rng.choice(PEOPLE)} here. {_sentence(rng, 9)} Please {task}: {wish}."
    call = f'{{"name": "{function["name"]}", "arguments": \'{json.dumps(arguments)}\'}}'
    turns = [asked]
    if rng.random() < 0.3:
        question = f"ASSISTANT: Gladly. {_sentence(rng, 6)} For whom?{END}"
        turns = [f"USER: {_sentence(rng, 8)} Could you {task}?", question, asked]
    if rng.random() < 0.25:
        turns.append(f"ASSISTANT: Of course, one moment please.{END}")
    damage = rng.random()
    if damage < 0.004:
        call = call[: len(call) * 2 // 3]
    elif damage < 0.007:
        call = call.replace(function["name"], "no_such_function", 1)
    elif damage < 0.01:
        call = call.replace("arguments", "parameters", 1)
    turns += [f"ASSISTANT: <functioncall> {call}{END}", f"FUNCTION RESPONSE: {json.dumps(result)}"]
    turns.append(f"ASSISTANT: Here is what I found. {_paragraph(rng, rng.randint(1, 3))} {result['items'][0]}{END}")
    return turns


def row(rng: random.Random, pool: list[dict[str, Any]]) -> dict[str, str]:
    """One row: plain chat, a refusal, or one to three calls."""
    kind = rng.random()
    if kind < 0.3:
        turns = []
        for _ in range(rng.randint(1, 3)):
            turns += [
                f"USER: {_paragraph(rng, rng.randint(1, 2))}",
                f"ASSISTANT: {_paragraph(rng, rng.randint(3, 8))}{END}",
            ]
        return {"system": PLAIN, "chat": "\n\n".join(turns) + "\n\n"}
    offered = rng.sample(pool, rng.choice((1, 1, 2)))
    system = HEAD + "\n\n".join(json.dumps(function, indent=4) for function in offered) + "\n"
    if kind < 0.43:
        wish = f"{rng.choice(VERBS)} a {rng.choice(NOUNS)} {_sentence(rng, 5)}"
        turns = [
            f"USER: Can you {wish}",
            f"ASSISTANT: I'm sorry, but I can only {offered[0]['name']}. {_sentence(rng, 9)}{END}",
        ]
    else:
        turns = [turn for _ in range(rng.randint(1, 3)) for turn in _call_turns(rng, rng.choice(offered))]
        if rng.random() < 0.5:
            turns += [
                f"USER: Thank you! {_sentence(rng, 5)}",
                f"ASSISTANT: You're welcome! Feel free to ask again.{END}",
            ]
    return {"system": system, "chat": "\n\n\n".join(turns) + "\n\n\n"}


def write_rows(path: Path, count: int, seed: int = 0) -> None:
    """Writes a JSON list of ``count`` rows, as glaive's file is written."""
    rng = random.Random(seed)
    pool = functions(rng, min(2500, max(20, count // 40)))
    recent: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            text = rng.choice(recent) if recent and rng.random() < 0.03 else json.dumps(row(rng, pool), indent=2)
            recent = [*recent[-200:], text] if index % 10 == 0 else recent
            file.write(("[\n" if index == 0 else ",\n") + text)
        file.write("\n]\n")
