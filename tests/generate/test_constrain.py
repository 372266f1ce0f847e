"""Constrained decoding: whatever a model would say, what it says is text or calls that validate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from callama.common.errors import CallamaError
from callama.contract.grammar import Choice
from callama.contract.messages import Tool
from callama.contract.tool_uses import parse_answer
from callama.generate.constrain import Constrainer, MatcherGuide
from callama.generate.engine import Generation, Generator
from callama.generate.keys import KeyWatch
from callama.generate.sampling import Sampling
from callama.text.render import Renderer
from callama.text.tokenizer import Tokenizer, load_tokenizer
from tests import tiny
from tests.fetch import embedded_model_dir, llama3_tokenizer_path
from tests.generate.tools import TOOLS, read_valid, tool

CALL = '{"tool_uses": [{"recipient_name": "functions.get_weather", "parameters": {"city": "Oslo"}}'
NOW = '{"recipient_name": "functions.now", "parameters": {}}'
FREE, REQUIRED, SINGLE = Choice(), Choice(required=True), Choice(required=True, parallel=False)


class World:
    """A random model with a real, small tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = tiny.write_tokenizer(folder / "tokenizer.json")
        self.model = tiny.random_model(self.tokenizer.vocab_size, seed=3).eval()
        stops = Renderer(self.tokenizer).stop_ids
        self.generator = Generator(self.model, stops)
        self.constrainer = Constrainer(self.tokenizer, stops)

    def run(
        self, tools: Sequence[Sequence[Tool]], choice: Choice, sampling: Sampling, tokens: int = 900
    ) -> list[Generation]:
        guides = [self.constrainer.guide(offered, choice) for offered in tools]
        prompts = [self.tokenizer.encode(f"number {i}") for i in range(len(tools))]
        return self.generator.generate(prompts, tokens, sampling, guides=guides)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def admits(guide: MatcherGuide, tokenizer: Tokenizer, text: str) -> bool:
    """Whether every token of a text is allowed at its place."""
    return all(guide.mask()[token] and guide.accept(token) for token in tokenizer.encode(text))


@pytest.mark.parametrize(
    ("choice", "kinds", "names"),
    [
        (FREE, {"text", "call"}, {t.name for t in TOOLS}),
        (REQUIRED, {"call"}, {t.name for t in TOOLS}),
        (SINGLE, {"call"}, {t.name for t in TOOLS}),
        (Choice(tool="pay"), {"call"}, {"pay"}),
    ],
)
def test_answers_of_random_weights_parse_and_validate(
    world: World, choice: Choice, kinds: set[str], names: set[str]
) -> None:
    pairs = list(combinations(TOOLS, 2))
    offered = pairs if choice.tool is None else [TOOLS] * 20
    done = world.run(offered, choice, Sampling(1.0, 1.0, seed=1), tokens=1500)
    whole = [(tools, g) for tools, g in zip(offered, done, strict=True) if g.stopped]
    # Random text ends when it happens to; what was cut at the limit may stop in the middle of a call.
    assert len(whole) > 0.9 * len(done)
    answers = [read_valid(world.tokenizer.decode(g.ids), tools) for tools, g in whole]
    assert {answer.kind for answer in answers} <= kinds
    assert {call.name for answer in answers for call in answer.calls} <= names
    assert max(len(answer.calls) for answer in answers) == 1 if not choice.parallel else True
    if choice is REQUIRED:
        assert max(len(answer.calls) for answer in answers) > 1
        assert sum(g.forced for g in done) > 0


def test_forced_tokens_are_those_that_stepping_would_take(world: World) -> None:
    class Stepping:
        """The same guide with nothing forced: each token is chosen from the mask."""

        def __init__(self, guide: MatcherGuide) -> None:
            self.guide = guide
            self.accept, self.mask = guide.accept, guide.mask

        complete = property(lambda self: self.guide.complete)

        def forced(self) -> list[int]:
            return []

    offered = [TOOLS[i : i + 3] for i in range(8)]
    prompts = [world.tokenizer.encode(f"number {i}") for i in range(len(offered))]
    fast = [world.constrainer.guide(tools, SINGLE) for tools in offered]
    slow = [Stepping(world.constrainer.guide(tools, SINGLE)) for tools in offered]
    ours = world.generator.generate(prompts, 120, Sampling(), guides=fast)
    theirs = world.generator.generate(prompts, 120, Sampling(), guides=slow)
    assert [g.ids for g in ours] == [g.ids for g in theirs]
    assert all(g.forced > 10 for g in ours)


@pytest.mark.parametrize(
    ("text", "choice", "admitted"),
    [
        ("It rains.", FREE, True),
        ("First.\nSecond { x }.", FREE, True),
        (f"Let me see.\n{CALL}]}}", FREE, True),
        (f"{CALL}, {NOW}]}}", FREE, True),
        (f"{CALL}, {NOW}]}}", REQUIRED, True),
        (f"{CALL}, {NOW}]}}", SINGLE, False),
        ("It rains.", REQUIRED, False),
        (f"{CALL}]}}", Choice(tool="now"), False),
        (f"{CALL}]}} Done.", FREE, False),
        (f"In a line {CALL}]}}", FREE, False),
        ('{"tool_uses": []}', FREE, False),
        (CALL.replace("weather", "wetter"), FREE, False),
        (CALL.replace('"city"', '"town"'), FREE, False),
        (CALL.replace('"city": "Oslo"', ""), FREE, False),
        (CALL.replace('"Oslo"', '"Oslo", "more": 1'), FREE, False),
        (CALL.replace("Oslo", r"\ud800"), FREE, False),
        ("a\n<tool_call>", FREE, False),
        (' [{"name": "now"}]', FREE, False),
        ("```json\n[1]", FREE, False),
    ],
)
def test_what_the_grammar_admits_is_what_the_dialect_reads(
    world: World, text: str, choice: Choice, admitted: bool
) -> None:
    assert admits(world.constrainer.guide(TOOLS[:3], choice), world.tokenizer, text) is admitted
    if admitted:
        assert parse_answer(text).kind == ("call" if "tool_uses" in text else "text")


def test_without_tools_there_is_text_only(world: World) -> None:
    assert admits(world.constrainer.guide((), FREE), world.tokenizer, "It rains.")
    assert not admits(world.constrainer.guide((), FREE), world.tokenizer, CALL)


@pytest.mark.parametrize("kind", ["tiktoken", "tokenizer.json of a GGUF file"])
def test_special_tokens_are_no_text_in_any_tokenizer(kind: str) -> None:
    tokenizer = load_tokenizer(llama3_tokenizer_path() if kind == "tiktoken" else embedded_model_dir())
    renderer = Renderer(tokenizer)
    guide = Constrainer(tokenizer, renderer.stop_ids).guide(TOOLS, FREE)

    def specials(mask: Tensor) -> set[int]:
        return {i for i in tokenizer.special_tokens.values() if mask[i]}

    assert specials(guide.mask()) == renderer.stop_ids
    ids = tokenizer.encode('{"tool_uses": [{"recipient_name": "functions.get_weather", "parameters": {"city": "O')
    for token in ids:
        assert guide.mask()[token]
        assert guide.accept(token)
    assert specials(guide.mask()) == set()
    for token in tokenizer.encode("slo <|im_end|><|eot_id|>"):
        assert guide.mask()[token] and guide.accept(token)
    assert {bytes(tokenizer.pieces[i]) for i in guide.mask().nonzero().flatten().tolist()} >= {b"a", b'"'}


def test_an_answer_cut_by_the_limit_is_not_stopped(world: World) -> None:
    full = world.run([TOOLS[2:3]], SINGLE, Sampling())[0]
    assert full.stopped and parse_answer(world.tokenizer.decode(full.ids)).kind == "call"
    assert full.forced == len(full.ids), "one tool without parameters leaves nothing to choose"
    for limit in (1, 5, len(full.ids) - 1, len(full.ids)):
        cut = world.run([TOOLS[2:3]], SINGLE, Sampling(), tokens=limit)[0]
        assert (cut.ids, cut.stopped) == (full.ids[:limit], limit == len(full.ids))


def test_a_key_is_never_repeated(world: World) -> None:
    start = '{"tool_uses": [{"recipient_name": "functions.label", "parameters": {"labels": {"ab": 1, "'
    for end, fits in (('ab"', False), ('abc"', True), ('a\\"b"', True)):
        guide = world.constrainer.guide(TOOLS, REQUIRED)
        assert admits(guide, world.tokenizer, start + end) is fits
    assert parse_answer(f'{start}ab": 2}}}}}}]}}').kind == "malformed"


def test_the_watch_knows_objects_strings_and_escapes() -> None:
    def fits(text: str) -> bool:
        whole, bytewise = KeyWatch(b"["), KeyWatch(b"[")
        done = all(bytewise.read(bytes((b,))) for b in text.encode())
        assert whole.read(text.encode()) is done
        return done

    assert fits('{"a": 1, "a": 2} asleep')
    assert fits('[{"a": "a", "b": {"a": ["a", "a"]}}, {"a": 1}')
    assert fits('[{"a": "\\", \\"a", "b": "{\\"a", "é": 1}')
    for repeated in ('[{"a": 1, "a"', '[{"a": {"b": [1, {"c": 2}]}, "a"', '[{"é": 1, "é"', '[{"a\\"": 1, "a\\""'):
        assert not fits(repeated)


@pytest.mark.parametrize(
    ("tools", "choice", "message"),
    [
        ((tool("f", {"a": {"not": {"type": "string"}}}),), FREE, "tool f: .* cannot express 'not'"),
        ((tool("f", {"a": {"allOf": [{"type": "number"}, {"minimum": 1}]}}),), FREE, "tool f: .* combined by allOf"),
        ((TOOLS[0], tool("f", {"a": {"type": "string", "pattern": "(?=x)y"}})), FREE, "tool f: its schema cannot"),
        ((tool("f", {}, ("a",), additionalProperties=False),), FREE, "tool f: no value fits .* 'a' and forbids it"),
        (TOOLS[:2], Choice(tool="fly"), "of fly is required, but .* are: get_weather, get_weather.v2"),
        ((), REQUIRED, "a call is required, but the conversation's tools are: none"),
    ],
)  # fmt: skip
def test_what_cannot_be_constrained_is_said(
    world: World, tools: tuple[Tool, ...], choice: Choice, message: str
) -> None:
    with pytest.raises(CallamaError, match=message):
        world.constrainer.guide(tools, choice)


def test_log_probabilities_are_the_models_own(world: World) -> None:
    """Those of a plain forward pass over prompt and answer, for sampled and forced ids alike."""
    from callama.model.attend import Documents

    prompts = [world.tokenizer.encode(text) for text in ("number 1", "number 1 and 2", "a")]
    guides = [world.constrainer.guide(TOOLS[2:5], SINGLE) for _ in prompts]
    guided = world.generator.generate(prompts, 60, Sampling(1.0, 0.9), guides=guides, logprobs=True)
    free = world.generator.generate(prompts, 20, Sampling(1.0, 0.9), logprobs=True)
    for prompt, made in zip([*prompts, *prompts], [*guided, *free], strict=True):
        ids = [*prompt, *made.ids]
        with torch.inference_mode():
            hidden = world.model(torch.tensor([ids]), Documents([[len(ids)]]))[0]
            rows = world.model.logits(hidden).log_softmax(-1)[len(prompt) - 1 : -1]
        expected = rows.gather(1, torch.tensor(made.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(made.logprobs), expected, atol=1e-4, rtol=1e-4)
    assert any(made.forced for made in guided)
