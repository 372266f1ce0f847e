"""What a conversation becomes, id for id: frames, answers, kinds, and which ids are trained.

Expected ids are put together here from encoded pieces, special tokens' numbers and nothing of the renderer's.
"""

import datetime
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation
from callama.contract.signatures import render_signature
from callama.contract.spans import Kind
from callama.contract.tool_uses import parse_answer
from callama.contract.turns import Turn, parse_turns
from callama.text.markup import CHATML, LLAMA3, markup_of
from callama.text.render import Rendered, Renderer
from callama.text.tokenizer import Tokenizer
from tests.contract.strategies import conversations, texts

BEGIN, HEADER, END_HEADER, EOT = 128000, 128006, 128007, 128009
IM_START, IM_END = 1, 2
Piece = tuple[str, str]

WEATHER: dict[str, Any] = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location"],
    },
}
TOOLS_SHOWN = """# Tools

## functions

namespace functions {

// Get the current weather in a given location
type get_current_weather = (_: {
// The city and state, e.g. San Francisco, CA
location: string,
unit?: "celsius" | "fahrenheit",
}) => any;

} // namespace functions"""
CALL = '{"tool_uses": [{"recipient_name": "functions.get_current_weather", "parameters": {"location": "Oslo"}}]}'
TWO_CALLS = (
    '{"tool_uses": [{"recipient_name": "functions.get_current_weather", "parameters": {"location": "Oslo"}}, '
    '{"recipient_name": "functions.get_current_weather", "parameters": {"location": "Rome", "unit": "celsius"}}]}'
)


def spellable(value: Any) -> Any:
    """The value without what the embedded vocabulary cannot spell (test_tokenizer.py says what happens to that)."""
    if isinstance(value, str):
        return "".join("?" if c in "\x04\x06\x13\x14\x16\x1d" or "\U00040000" <= c < "\U000c0000" else c for c in value)
    if isinstance(value, dict):
        return {spellable(key): spellable(inner) for key, inner in value.items()}
    return [spellable(inner) for inner in value] if isinstance(value, list) else value


talks = conversations().map(lambda talk: Conversation.from_dict(spellable(talk.to_dict())))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str | None, *arguments: dict[str, Any]) -> dict[str, Any]:
    calls = [{"function": {"name": "get_current_weather", "arguments": a}} for a in arguments]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def result(text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text}


OSLO, ROME = {"location": "Oslo"}, {"location": "Rome", "unit": "celsius"}
CASES: dict[str, tuple[list[dict[str, Any]], list[Piece], bool]] = {
    "plain answer": ([user("Hi"), says("Hello!")], [("user", "Hi"), ("assistant", "Hello!")], False),
    "call": ([user("Weather?"), says(None, OSLO)], [("user", "Weather?"), ("assistant", CALL)], False),
    "text beside a call": (
        [user("Weather?"), says("I'll look.", OSLO)],
        [("user", "Weather?"), ("assistant", "I'll look.\n" + CALL)],
        False,
    ),
    "two assistant turns in a row": (
        [user("Weather?"), says("Sure…"), says(None, OSLO)],
        [("user", "Weather?"), ("assistant", "Sure…"), ("assistant", CALL)],
        False,
    ),
    "several calls and several results": (
        [user("Oslo, Rome?"), says(None, OSLO, ROME), result('{"c":3}'), result("mild"), says("Cold; mild.")],
        [
            ("user", "Oslo, Rome?"),
            ("assistant", TWO_CALLS),
            ("tool", '[{"c": 3}, "mild"]'),
            ("assistant", "Cold; mild."),
        ],
        False,
    ),
    "system and tools": (
        [{"role": "system", "content": "Be brief."}, user("Hi"), says("Hi.")],
        [("system", "Be brief.\n\n" + TOOLS_SHOWN), ("user", "Hi"), ("assistant", "Hi.")],
        True,
    ),
    "tools without a system message": (
        [user("Hi"), says("Hi.")],
        [("system", TOOLS_SHOWN), ("user", "Hi"), ("assistant", "Hi.")],
        True,
    ),
    "ends on a user's turn": ([says("Welcome."), user("Hi")], [("assistant", "Welcome."), ("user", "Hi")], False),
}


def conversation(messages: list[dict[str, Any]], with_tools: bool = True) -> Conversation:
    return Conversation.from_dict({"messages": messages, "tools": [WEATHER] if with_tools else []})


def expected_llama3(pieces: Sequence[Piece], meta: Any) -> tuple[list[int], list[list[int]]]:
    """All ids, and those of each answer with its stop token, from Meta's own encoding of each piece."""

    def encode(text: str) -> list[int]:
        return meta.tokenizer.encode(text, bos=False, eos=False)

    ids, answers = [BEGIN], []
    for role, text in pieces:
        ids += [HEADER, *encode(role), END_HEADER, *encode("\n\n"), *encode(text), EOT]
        if role == "assistant":
            answers.append([*encode(text), EOT])
    return ids, answers


def expected_chatml(pieces: Sequence[Piece], tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[list[int]]]:
    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    ids, answers = [], []
    for role, text in pieces:
        ids += [IM_START, *encode(f"{role}\n"), *encode(text), IM_END, *encode("\n")]
        if role == "assistant":
            answers.append([*encode(text), IM_END])
    return ids, answers


def supervised_runs(rendered: Rendered, **how: Any) -> list[list[int]]:
    """The ids that are trained, as unbroken runs; answers never touch, a header lies between them."""
    runs, before = [], False
    for token, chosen in zip(rendered.ids, rendered.supervised(**how), strict=True):
        if chosen:
            runs.append([*runs.pop(), token] if before else [token])
        before = chosen
    return runs


@pytest.mark.parametrize("name", CASES)
def test_trap_07_llama_3_ids_and_supervised_ids_are_exactly_these(
    llama3: Tokenizer, meta: SimpleNamespace, name: str
) -> None:
    messages, pieces, with_tools = CASES[name]
    rendered = Renderer(llama3).conversation(conversation(messages, with_tools))
    ids, answers = expected_llama3(pieces, meta)
    assert rendered.ids == ids
    assert supervised_runs(rendered) == answers
    assert supervised_runs(rendered, train_on="last") == answers[-1:]


@pytest.mark.parametrize("name", CASES)
def test_trap_07_chatml_ids_and_supervised_ids_are_exactly_these(
    smollm2: Tokenizer, transformers_smollm2: PreTrainedTokenizerFast, name: str
) -> None:
    messages, pieces, with_tools = CASES[name]
    rendered = Renderer(smollm2).conversation(conversation(messages, with_tools))
    ids, answers = expected_chatml(pieces, transformers_smollm2)
    assert rendered.ids == ids
    assert supervised_runs(rendered) == answers
    assert supervised_runs(rendered, train_on="last") == answers[-1:]


def test_a_plain_answer_spelled_out_in_numbers(llama3: Tokenizer) -> None:
    rendered = Renderer(llama3).conversation(conversation([user("Hi"), says("Hello!")], with_tools=False))
    frame = [128000, 128006, 882, 128007, 271, 13347, 128009, 128006, 78191, 128007, 271]
    assert rendered.ids == [*frame, 9906, 0, 128009]
    assert rendered.supervised() == [False] * 11 + [True] * 3


def test_trap_07_no_role_but_the_assistant_is_ever_trained(renderer: Renderer) -> None:
    messages = [user("Hi"), {"role": "system", "content": "Be brief."}, user("There?")]
    rendered = renderer.conversation(conversation(messages))
    assert rendered.answers == [] and not any(rendered.supervised()) and not any(rendered.supervised("last"))
    assert set(rendered.kinds) == {Kind.PROMPT}


@given(talk=talks)
@settings(max_examples=50)
def test_trap_08_each_answer_trains_exactly_one_stop_token_at_its_end(renderer: Renderer, talk: Conversation) -> None:
    rendered = renderer.conversation(talk)
    stop = renderer.tokenizer.special(renderer.markup.end)
    special = set(renderer.tokenizer.special_tokens.values())
    runs = supervised_runs(rendered)
    assert len(runs) == len(rendered.answers) == sum(m.role == "assistant" for m in talk.messages)
    for run, (start, end) in zip(runs, rendered.answers, strict=True):
        assert run == rendered.ids[start:end]
        assert [i for i, token in enumerate(run) if token in special] == [len(run) - 1] and run[-1] == stop
    for kind, trained in zip(rendered.kinds, rendered.supervised(), strict=True):
        assert trained == (kind is not Kind.PROMPT)


def test_trap_27_generation_stops_at_all_stop_tokens_but_only_one_is_trained(
    llama3: Tokenizer, smollm2: Tokenizer
) -> None:
    assert Renderer(llama3).stop_ids == {128001, 128008, 128009}
    assert Renderer(smollm2).stop_ids == {0, 2}
    assert markup_of(llama3) is LLAMA3 and LLAMA3.end == "<|eot_id|>"
    assert markup_of(smollm2) is CHATML and CHATML.end == "<|im_end|>"


@given(talk=talks)
@settings(max_examples=50)
def test_trap_09_the_prompt_of_every_answer_is_what_training_saw_before_it(
    renderer: Renderer, talk: Conversation
) -> None:
    rendered = renderer.conversation(talk)
    places = [i for i, message in enumerate(talk.messages) if message.role == "assistant"]
    for place, (start, _) in zip(places, rendered.answers, strict=True):
        # An empty head still shows the tools, as the whole conversation does.
        before = Conversation(talk.messages[:place], talk.tools)
        assert renderer.prompt(before) == rendered.ids[:start]


@given(talk=talks)
@settings(max_examples=50)
def test_trap_05_no_text_of_a_conversation_becomes_a_frame(renderer: Renderer, talk: Conversation) -> None:
    rendered, markup, tokenizer = renderer.conversation(talk), renderer.markup, renderer.tokenizer
    turns = split_turns(rendered, renderer)
    special = set(tokenizer.special_tokens.values())
    framed = [name for part in (*markup.begin, *markup.header * len(turns)) if part.special for name in [part.text]]
    expected = sorted([*map(tokenizer.special, framed), *[tokenizer.special(markup.end)] * len(turns)])
    assert sorted(token for token in rendered.ids if token in special) == expected


def split_turns(rendered: Rendered, renderer: Renderer) -> list[Turn]:
    """A stranger's reading of the ids: cut at the stop token, then role and text by the markup."""
    tokenizer, turns = renderer.tokenizer, []
    stop, current = tokenizer.special(renderer.markup.end), []
    for token in rendered.ids:
        if token != stop:
            current.append(token)
            continue
        text = tokenizer.decode(current)
        if renderer.markup is LLAMA3:
            head, _, said = text.partition("<|end_header_id|>\n\n")
            role = head.removeprefix("<|begin_of_text|>").removeprefix("<|start_header_id|>")
        else:
            role, _, said = text.removeprefix("\n").removeprefix("<|im_start|>").partition("\n")
        turns.append((role, said))
        current = []
    return [Turn(role, (SimpleNamespace(text=said),)) for role, said in turns]  # type: ignore[arg-type]


@given(talk=talks)
@settings(max_examples=50)
def test_reading_the_ids_back_gives_the_conversation(renderer: Renderer, talk: Conversation) -> None:
    assume(not any(m.content == "" for m in talk.messages if m.role == "system"))
    read = parse_turns(split_turns(renderer.conversation(talk), renderer), talk.tools)
    assert read.messages == talk.messages and read.tools == talk.tools


@given(talk=talks)
@settings(max_examples=50)
def test_supervised_ids_without_the_stop_parse_back_to_what_was_meant(renderer: Renderer, talk: Conversation) -> None:
    rendered = renderer.conversation(talk)
    said = [m for m in talk.messages if m.role == "assistant"]
    for message, run in zip(said, supervised_runs(rendered), strict=True):
        answer = parse_answer(renderer.tokenizer.decode(run[:-1]))
        assert answer.kind == ("call" if message.tool_calls else "text")
        assert [(c.name, c.arguments) for c in answer.calls] == [(c.name, c.arguments) for c in message.tool_calls]
        assert answer.text == (message.content or "")


def of_kind(rendered: Rendered, tokenizer: Tokenizer, kind: Kind) -> list[str]:
    """The text of each unbroken run of tokens of a kind."""
    runs: list[list[int]] = []
    for index, found in enumerate(rendered.kinds):
        if found is kind:
            start_new = index == 0 or rendered.kinds[index - 1] is not kind
            runs.append([rendered.ids[index]]) if start_new else runs[-1].append(rendered.ids[index])
    return [tokenizer.decode(run) for run in runs]


def test_names_keys_and_values_have_their_kinds(renderer: Renderer) -> None:
    arguments = {"location": "São Tomé", "days": [10, 2.5], "nested": {"deep key": True, "none": None}}
    rendered = renderer.conversation(conversation([user("Weather?"), says("One moment.", arguments)]))

    def texts_of(kind: Kind) -> list[str]:
        return of_kind(rendered, renderer.tokenizer, kind)

    (name,) = texts_of(Kind.FUNCTION_NAME)
    assert "get_current_weather" in name and len(name) <= len('.get_current_weather",')
    keys, values = texts_of(Kind.ARGUMENT_KEY), texts_of(Kind.ARGUMENT_VALUE)
    for found, wanted in ((keys, ["location", "days", "nested", "deep key", "none"]),):
        assert all(w in f and len(f) <= len(w) + 6 for f, w in zip(found, wanted, strict=True)), found
    for wanted in ("São Tomé", "10", "2.5", "true", "null"):
        assert any(wanted in value for value in values), (wanted, values)
    assert [t.removesuffix("\n") for t in texts_of(Kind.TEXT)] == ["One moment."]
    assert "tool_uses" in texts_of(Kind.CALL_SYNTAX)[0]
    assert texts_of(Kind.END_OF_TURN) == [renderer.markup.end]


@given(talk=talks)
@settings(max_examples=50)
def test_every_name_key_and_value_is_covered_by_tokens_of_its_kind(renderer: Renderer, talk: Conversation) -> None:
    rendered = renderer.conversation(talk)
    names = "".join(of_kind(rendered, renderer.tokenizer, Kind.FUNCTION_NAME))
    for call in (c for m in talk.messages for c in m.tool_calls):
        assert call.name in names
        for key, value in call.arguments.items():
            if key.isalnum() and key.isascii():
                assert key in "".join(of_kind(rendered, renderer.tokenizer, Kind.ARGUMENT_KEY))
            if isinstance(value, int):
                spelled = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str(value)
                assert spelled in "".join(of_kind(rendered, renderer.tokenizer, Kind.ARGUMENT_VALUE))


plain = st.lists(
    st.tuples(st.sampled_from(("system", "user", "assistant")), (texts | st.text(max_size=30)).map(spellable)),
    min_size=1,
    max_size=5,
)


@given(turns=plain)
def test_llama_3_conversations_without_tools_are_metas_chat_format(
    llama3: Tokenizer, meta: SimpleNamespace, turns: list[Piece]
) -> None:
    talk = plain_conversation(turns)
    messages = [meta.message(role=m.role, content=m.content) for m in talk.messages]
    assert Renderer(llama3).prompt(talk) == meta.chat.encode_dialog_prompt(messages).tokens


@given(turns=plain)
def test_chatml_conversations_without_tools_are_as_transformers_renders_them(
    smollm2: Tokenizer, transformers_smollm2: PreTrainedTokenizerFast, turns: list[Piece]
) -> None:
    # transformers tokenizes the rendered string as one: what starts with white space merges with the header's
    # newline there, and what spells a special token becomes one (trap 5).
    assume(not any(text[:1].isspace() or "<|" in text for _, text in turns))
    talk = plain_conversation(turns)
    prompt, whole = Renderer(smollm2).prompt(talk), Renderer(smollm2).conversation(talk).ids
    messages = [m.to_dict() for m in talk.messages]
    theirs = transformers_smollm2.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert prompt == theirs
    assert whole == transformers_smollm2.apply_chat_template(messages, return_dict=False)


def plain_conversation(turns: list[Piece]) -> Conversation:
    assume(all(role != "assistant" or (text.strip() and parse_answer(text).kind == "text") for role, text in turns))
    messages = [{"role": role, "content": text} for role, text in turns]
    assume(messages[0] != {"role": "system", "content": ""})
    return Conversation.from_dict({"messages": messages})


def test_the_weather_tools_signature_is_the_one_in_the_expected_text() -> None:
    (tool,) = conversation([user("Hi")]).tools
    assert render_signature(tool) in TOOLS_SHOWN


def test_assistant_text_that_would_be_read_as_a_call_is_refused(renderer: Renderer) -> None:
    with pytest.raises(CallamaError, match="assistant text would be read as a call"):
        renderer.conversation(conversation([user("Hi"), says(CALL)]))


@given(talk=talks)
@settings(max_examples=20)
def test_trap_02_rendering_is_a_pure_function(renderer: Renderer, talk: Conversation) -> None:
    first = renderer.conversation(talk)
    assert renderer.conversation(Conversation.from_dict(talk.to_dict())) == first


def test_trap_02_rendering_asks_no_clock(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = conversation([user("Hi"), says(None, {"location": "Oslo"}), result("7"), says("It is 7.")])
    first = renderer.conversation(talk)
    for clock in ("time", "time_ns", "localtime", "gmtime", "strftime", "ctime"):
        monkeypatch.setattr(time, clock, lambda *_: pytest.fail("rendering asked what time it is"))
    monkeypatch.setattr(datetime, "datetime", None)
    monkeypatch.setattr(datetime, "date", None)
    again = renderer.conversation(Conversation.from_dict(talk.to_dict()))
    monkeypatch.undo()
    assert again == first
