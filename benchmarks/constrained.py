"""Constrained answers of random weights: whatever such a model would say, every answer must parse and validate.

A tiny random model samples at temperature 1, so that every turn of a grammar is taken sooner or later. It is
offered tools of the catalogue and tools with random schemas, one to four at a time, under every kind of choice.
An answer that comes to its end must be text, or calls that fit their tools' schemas; the first one that does not
ends the run with status 1. Answers cut by the length limit and tools that the grammar refuses, with an error that
names them, are counted. Run from the repository's root.

    python -m benchmarks.constrained [--count 10000] [--seed 0] [--tokens 1000]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.record import record
from callama.common.errors import CallamaError
from callama.contract.grammar import Choice
from callama.contract.messages import Tool
from callama.contract.tool_uses import parse_answer
from callama.data.checks import Declared
from callama.generate.constrain import Constrainer, MatcherGuide
from callama.generate.engine import Generator
from callama.generate.sampling import Sampling
from callama.synth.catalogue import load_catalogue
from callama.text.render import Renderer
from tests import tiny

BATCH = 200
CHOICES = (Choice(), Choice(parallel=False), Choice(required=True), Choice(required=True, parallel=False))
KEYS = ("city", "unit", "a b", 'q"uote', "é", "required", "$ref", "back\\slash", "n\nl", "", "tool_uses", "😀")
WORDS = ("celsius", "", 'say "no"', "a\\b", "北京", "tab\t", "}]}", '{"tool_uses": [', "<|im_end|>", "\u2028", "null")
PATTERNS = ("^[A-Z]{3}$", r"^\d{4}-\d{2}$", "^(yes|no)$", "[0-9]+", r"^\w+@\w+\.com$", '^[^"]*$', "^$")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "made-up")


def random_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A JSON Schema of any kind that models are offered, at most three objects or lists deep."""
    makers = [_string, _number, _choice, _plain]
    return rng.choice(makers + [_object, _array, _union] * (depth < 3))(rng, depth)


def _string(rng: random.Random, depth: int) -> dict[str, Any]:
    least = rng.randint(0, 6)
    return rng.choice(
        [{"type": "string"}, {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 9)},
         {"type": "string", "pattern": rng.choice(PATTERNS)}, {"type": "string", "format": rng.choice(FORMATS)}]
    )  # fmt: skip


def _number(rng: random.Random, depth: int) -> dict[str, Any]:
    kind, low = rng.choice(("integer", "number")), rng.choice((-1000, -7, 0, 1, 0.5, 10**6))
    bounds = {rng.choice(("minimum", "exclusiveMinimum")): low, rng.choice(("maximum", "exclusiveMaximum")): low + 50}
    step = {"multipleOf": rng.choice((1, 5, 0.25))} if kind == "number" or rng.random() < 0.2 else {}
    return {"type": kind, **rng.choice(({}, bounds, dict(list(bounds.items())[:1]), step))}


def _choice(rng: random.Random, depth: int) -> dict[str, Any]:
    values: list[Any] = [*rng.sample(WORDS, 3), 1, -2.5, None, True, [1, "x"], {"k": {"n": []}}]
    return rng.choice(({"enum": rng.sample(values, rng.randint(1, 5))}, {"const": rng.choice(values)}))


def _plain(rng: random.Random, depth: int) -> dict[str, Any]:
    kinds = ["string", "integer", "number", "boolean", "null", "array", "object"]
    return rng.choice(({}, {"type": rng.choice(kinds)}, {"type": rng.sample(kinds, 2)}))


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(KEYS, rng.randint(0, 3))
    out: dict[str, Any] = {"type": "object", "properties": {n: random_schema(rng, depth + 1) for n in names}}
    out["required"] = [name for name in names if rng.random() < 0.6]
    if rng.random() < 0.3:
        out["additionalProperties"] = rng.choice((False, True, random_schema(rng, depth + 1)))
    return out


def _array(rng: random.Random, depth: int) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "array", "items": random_schema(rng, depth + 1)}
    if rng.random() < 0.3:
        out["prefixItems"] = [random_schema(rng, depth + 1) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.5:
        least = rng.randint(0, 2)
        out |= {"minItems": least, "maxItems": least + rng.randint(0, 3)}
    return out


def _union(rng: random.Random, depth: int) -> dict[str, Any]:
    members = [random_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    return {rng.choice(("anyOf", "anyOf", "anyOf", "oneOf")): members}


def random_tool(rng: random.Random, number: int) -> Tool:
    """A tool with a random schema, recursive every tenth time."""
    parameters = _object(rng, 0)
    if number % 10 == 0:
        parameters["properties"]["node"] = {"$ref": "#/$defs/node"}
        kid = {"type": "object", "properties": {"v": random_schema(rng, 2), "kid": {"$ref": "#/$defs/node"}}}
        parameters["$defs"] = {"node": kid}
    return Tool.from_dict({"name": f"random.tool_{number}", "parameters": parameters})


def fault_of(text: str, tools: tuple[Tool, ...], choice: Choice) -> str:
    """What is wrong with a whole answer; empty where nothing is."""
    answer, by_name = parse_answer(text), {t.name: t for t in tools}
    if answer.kind == "malformed" or (choice.required and answer.kind != "call"):
        return f"it is {answer.kind}: {answer.reason}"
    if len(answer.calls) > 1 and not choice.parallel:
        return f"{len(answer.calls)} calls"
    for call in answer.calls:
        if call.name not in by_name or choice.tool not in (None, call.name):
            return f"a call of {call.name}"
        if fault := Declared(by_name[call.name]).fault(call.arguments):
            return fault.detail
    return ""


class Offers:
    """Tools with a choice, and the guide that they make."""

    def __init__(self, rng: random.Random, constrainer: Constrainer, counts: Counter[str]) -> None:
        self._rng, self._constrainer, self._counts = rng, constrainer, counts
        self._catalogue = [spec.tool for spec in load_catalogue().specs]
        self._number = 0

    def draw(self) -> tuple[tuple[Tool, ...], Choice, MatcherGuide]:
        """The next offer whose schemas the grammar can express."""
        while True:
            tools = tuple(self._tool() for _ in range(self._rng.randint(1, 4)))
            if len({t.name for t in tools}) < len(tools):
                continue
            choice = self._rng.choice([*CHOICES, Choice(required=True, tool=tools[0].name)])
            try:
                return tools, choice, self._constrainer.guide(tools, choice)
            except CallamaError as error:
                if "cannot be made a grammar" not in str(error) and "cannot express" not in str(error):
                    raise
                self._counts["refused offers"] += 1

    def _tool(self) -> Tool:
        if self._rng.random() < 0.5:
            return self._rng.choice(self._catalogue)
        self._number += 1
        return random_tool(self._rng, self._number)


def main() -> None:
    """Parses, generates, checks, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="answers that must come to their end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer = tiny.write_tokenizer(Path(temporary) / "tokenizer.json", vocab_size=600)
    stops = Renderer(tokenizer).stop_ids
    generator = Generator(tiny.random_model(tokenizer.vocab_size, seed=args.seed).eval(), stops, slots=64)
    counts: Counter[str] = Counter()
    offers = Offers(random.Random(args.seed), Constrainer(tokenizer, stops), counts)
    began, drawn = time.process_time(), 0
    while counts["whole"] < args.count:
        batch = [offers.draw() for _ in range(min(BATCH, args.count))]
        prompts = [tokenizer.encode(f"number {drawn + i}") for i in range(len(batch))]
        sampling, guides = Sampling(1.0, 1.0, seed=drawn), [guide for *_, guide in batch]
        for (tools, choice, _), made in zip(
            batch, generator.generate(prompts, args.tokens, sampling, guides=guides), strict=True
        ):
            counts.update(tokens=len(made.ids), forced=made.forced)
            if not made.stopped:
                counts["cut at the limit"] += 1
                continue
            text = tokenizer.decode(made.ids)
            if fault := fault_of(text, tools, choice):
                schemas = json.dumps([tool.to_dict() for tool in tools], ensure_ascii=False)
                sys.exit(f"answer {drawn}, {choice}: {fault}\n{text}\n{schemas}")
            counts["whole"] += 1
            counts["calls"] += len(parse_answer(text).calls)
        drawn += len(batch)
        print(f"{dict(counts)}, {time.process_time() - began:.0f} s of CPU", flush=True)
    seconds = time.process_time() - began
    figures = {"seed": args.seed, "max_new_tokens": args.tokens, **counts, "cpu_seconds": seconds}
    record("constrained", figures, ("torch", "llguidance", "jsonschema-rs"))


if __name__ == "__main__":
    main()
