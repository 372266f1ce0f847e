"""The exported template: what ``transformers`` renders and cuts into tokens is what callama renders, id for id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from transformers import PreTrainedTokenizerFast

from callama.common.errors import CallamaError
from callama.contract.jsontext import canonical_result
from callama.contract.messages import Conversation
from callama.text.chat_template import chat_template
from callama.text.hf_tokenizer import PLAIN, SPLIT, is_llama3, meta_lines, spec_of, with_marks, without_marks
from callama.text.render import Renderer
from callama.text.tokenizer import Tokenizer
from tests.contract.strategies import texts
from tests.text.test_render import CASES, conversation, spellable, talks

Ids = Callable[[Conversation, bool], list[int]]


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Ids:
    """Prompts as an engine makes them from the exported files."""
    path = tmp_path_factory.mktemp("hf") / "tokenizer.json"
    path.write_text(json.dumps(with_marks(spec_of(tokenizer.file))), encoding="utf-8")
    library = PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=chat_template(tokenizer))

    def ids(talk: Conversation, prompt: bool) -> list[int]:
        raw = talk.to_dict()
        found: list[int] = library.apply_chat_template(
            raw["messages"], tools=raw["tools"] or None, add_generation_prompt=prompt, return_dict=False
        )
        return found

    return ids


@pytest.mark.parametrize("name", CASES)
def test_trap_09_every_kind_of_conversation(renderer: Renderer, theirs: Ids, name: str) -> None:
    messages, _, with_tools = CASES[name]
    talk = conversation(messages, with_tools)
    assert theirs(talk, False) == renderer.conversation(talk).ids
    assert theirs(talk, True) == renderer.prompt(talk)


@pytest.mark.slow
@settings(max_examples=150)
@given(talk=talks)
def test_trap_09_any_conversation_with_any_tools(renderer: Renderer, theirs: Ids, talk: Conversation) -> None:
    # Two noncharacters are the template's own marks and cannot be said.
    assume(not any(mark in json.dumps(talk.to_dict(), ensure_ascii=False) for mark in (SPLIT, PLAIN)))
    assert theirs(talk, True) == renderer.prompt(talk)


@pytest.mark.parametrize("text", ["\n\nHi", " Hi", "\r\n", " ", "\t\n x", "\n", "\u3000Hi", "\x1fHi"])
def test_white_space_at_the_start_of_a_turn_stays_apart_from_its_header(
    renderer: Renderer, theirs: Ids, text: str
) -> None:
    talk = conversation([{"role": "user", "content": text}], with_tools=False)
    assert theirs(talk, True) == renderer.prompt(talk)


def test_trap_05_special_tokens_in_what_was_said_stay_text(renderer: Renderer, theirs: Ids) -> None:
    names = [*renderer.tokenizer.special_tokens]
    talk = conversation([{"role": "user", "content": name} for name in names], with_tools=True)
    assert theirs(talk, True) == renderer.prompt(talk)


RESULTS = (
    '{"a":1}', '{"a" : [1,2.50,-0,1E5,{"b":null}]}', '{"a":1,"a":2}', "[1,2", "[sic] he said", "{}", "[ ]", "[1 2]",
    '["\\u00e9\\ud83d\\ude00\\n\\/\\\\"]', '["\\ud800"]', '["a\\"b", "\\\\"]', "[1e999]", "[NaN]", "[01]", "[1.]",
    "[.5]",
    '["\t"]', '{"a"}', "{1:2}", "[1,]", "[,1]", "[true,false,null]", "[tru]", "{} {}", '["x]', "[" * 250 + "]" * 250,
    ' \n[ 1 ]\n', "\u00a0[1]", '{"\\u0061":1,"a":2}', "[-]", "[--1]", "[1e]", "[1e+5]", "[\u0661]",
)  # fmt: skip


@pytest.mark.parametrize("content", RESULTS)
def test_results_are_respelled_as_ours_are(renderer: Renderer, theirs: Ids, content: str) -> None:
    """Here the template gets what a tool said, not yet in canonical spelling."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}
    said = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": content}]
    talk = Conversation.from_dict({"messages": [{"role": "user", "content": "?"}, *said]})

    class Raw:
        def to_dict(self) -> dict[str, Any]:
            return {"tools": [], "messages": [{"role": "user", "content": "?"}, *said]}

    assert talk.messages[-1].content == canonical_result(content)
    assert theirs(Raw(), True) == renderer.prompt(talk)  # type: ignore[arg-type]


@settings(max_examples=150)
@given(text=texts)
def test_a_text_without_marks_is_cut_as_before(tokenizer: Tokenizer, theirs: Ids, text: str) -> None:
    text = spellable(text)
    assume(not {SPLIT, PLAIN} & set(text))
    talk = conversation([{"role": "user", "content": text}], with_tools=False)
    assert theirs(talk, False) == Renderer(tokenizer).conversation(talk).ids


def test_arguments_may_be_json_text_and_results_may_come_in_another_order(renderer: Renderer, theirs: Ids) -> None:
    calls = [
        {"id": i, "type": "function", "function": {"name": "f", "arguments": a}}
        for i, a in (("x", '{"n":1}'), ("y", ""))
    ]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "y", "content": "second"},
        {"role": "tool", "tool_call_id": "x", "content": "first"},
    ]

    class Raw:
        def to_dict(self) -> dict[str, Any]:
            return {"tools": [], "messages": messages}

    assert theirs(Raw(), True) == renderer.prompt(Conversation.from_dict({"messages": messages}))  # type: ignore[arg-type]


def test_marks_come_off_again(tokenizer: Tokenizer) -> None:
    spec = spec_of(tokenizer.file)
    assert without_marks(with_marks(spec))["pre_tokenizer"] == spec["pre_tokenizer"]
    assert without_marks(with_marks(spec)).get("normalizer") == spec.get("normalizer")


def test_llama_3s_tokenizer_goes_to_hugging_face_and_back_unchanged(llama3: Tokenizer) -> None:
    spec = spec_of(llama3.file)
    assert is_llama3(spec) and meta_lines(spec) == llama3.file.read_bytes()


def test_a_tokenizer_whose_special_tokens_cannot_be_guarded_is_refused(smollm2: Tokenizer, tmp_path: Path) -> None:
    odd = Tokenizer(tmp_path, smollm2.pieces, {**smollm2.special_tokens, "[PAD]": 7}, smollm2.encode)
    with pytest.raises(CallamaError, match="special tokens that do not begin with '<'"):
        chat_template(odd)
