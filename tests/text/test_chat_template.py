"""The exported template: what ``transformers`` renders and cuts into tokens is what callama renders, id for id."""

from __future__ import annotations

import json
import re
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
from callama.text.hf_tokenizer import (
    PLAIN,
    SPLIT,
    is_llama3,
    meta_lines,
    pre_tokenizer_name,
    spec_of,
    with_marks,
    without_marks,
)
from callama.text.render import Renderer
from callama.text.tokenizer import Tokenizer, tokenizer_of_spec
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
    assert is_llama3(spec) and meta_lines(spec, llama3.file) == llama3.file.read_bytes()


def test_a_tokenizer_whose_special_tokens_cannot_be_guarded_is_refused(smollm2: Tokenizer, tmp_path: Path) -> None:
    odd = Tokenizer(tmp_path, smollm2.pieces, {**smollm2.special_tokens, "[PAD]": 7}, smollm2.encode)
    with pytest.raises(CallamaError, match=r"special tokens that do not begin with '<' \(\[PAD\]\).*rename them"):
        chat_template(odd)
    # A file for llama.cpp has no marks, so nothing is guarded there.
    assert chat_template(odd, marks=False).startswith("{%-")


FLAGS = {"rstrip": True, "lstrip": True, "single_word": True, "normalized": True}


@pytest.mark.parametrize("name", CASES)
def test_flags_and_dropout_of_a_strangers_file_change_no_ids(smollm2: Tokenizer, tmp_path: Path, name: str) -> None:
    spec = spec_of(smollm2.file)
    spec = {**spec, "model": {**spec["model"], "dropout": 0.5},
            "added_tokens": [{**token, **FLAGS} for token in spec["added_tokens"]]}  # fmt: skip
    tokenizer = tokenizer_of_spec(spec, tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(with_marks(spec)), encoding="utf-8")
    library = PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=chat_template(tokenizer))
    messages, _, with_tools = CASES[name]
    raw = (talk := conversation(messages, with_tools)).to_dict()
    found = library.apply_chat_template(raw["messages"], tools=raw["tools"] or None, return_dict=False)
    assert found == Renderer(tokenizer).conversation(talk).ids


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "3", "NaN", '"a"', '{"pre_tokenizer": {"pretokenizers": 3}}', '{"pre_tokenizer": 3}',
     '{"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}}', '{"model": {"vocab": 3}}', '{"model": []}'],
)  # fmt: skip
def test_a_broken_tokenizer_json_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(CallamaError, match=r"tokenizer\.json is not a tokenizer\.json of byte-level BPE"):
        tokenizer_of_spec(spec_of(path), path)


def test_a_tokenizer_without_a_place_for_marks_is_refused(smollm2: Tokenizer) -> None:
    byte_level = {"type": "ByteLevel"}
    spec = spec_of(smollm2.file)
    for changed in ({"pre_tokenizer": None, "normalizer": byte_level}, {"normalizer": byte_level}):
        with pytest.raises(CallamaError, match="move ByteLevel into the pre_tokenizer"):
            with_marks({**spec, **changed})


@pytest.mark.parametrize(("name", "number"), [("<tool_call>", 128_002), ("<tool_call>", 128_256), ("<|eot|>", 128_009)])
def test_a_token_that_metas_file_cannot_hold_is_refused(llama3: Tokenizer, name: str, number: int) -> None:
    spec = spec_of(llama3.file)
    others = [token for token in spec["added_tokens"] if token["id"] != number]
    spec["added_tokens"] = [*others, {"id": number, "content": name, "special": True, **FLAGS}]
    with pytest.raises(CallamaError, match=rf"has the token '{re.escape(name)}' with id {number}, which Meta's"):
        meta_lines(spec, llama3.file)


def digits_one_by_one(spec: Any) -> None:
    spec["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Digits", "individual_digits": True})


def swapped_ids(spec: Any) -> None:
    vocab = spec["model"]["vocab"]
    vocab["ing"], vocab["er"] = vocab["er"], vocab["ing"]


def id_left_out(spec: Any) -> None:
    spec["model"]["vocab"]["ing"] = 128_256


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (digits_one_by_one, "cuts it into words, in another way"),
        (lambda spec: spec.update(normalizer={"type": "Lowercase"}), "changes text"),
        (lambda spec: spec["model"].update(ignore_merges=False), "has other merges than Llama 3's, or other rules"),
        (lambda spec: spec["model"]["merges"].pop(), "has other merges"),
        (lambda spec: spec["model"]["merges"].insert(0, spec["model"]["merges"].pop()), "has other merges"),
        (swapped_ids, "has other merges"),
        (id_left_out, "leaves out ids of ordinary tokens"),
    ],
)
def test_a_tokenizer_of_llama_3s_size_that_cuts_text_in_another_way_is_no_tokenizer_model(
    llama3: Tokenizer, change: Callable[[Any], object], why: str
) -> None:
    change(spec := spec_of(llama3.file))
    with pytest.raises(CallamaError, match=f"{why}.*tokenizer.model.* would give other ids; convert --to native"):
        meta_lines(spec, llama3.file)


def test_llama_3s_merges_as_hugging_face_orders_them_are_llama_3s(llama3: Tokenizer) -> None:
    """Of pairs that make the same token, the one whose parts have the lower ids comes first (transformers,
    ``convert_slow_tokenizer.py``); ours go by the length of the first part."""
    spec = spec_of(llama3.file)
    vocab, ours = spec["model"]["vocab"], [tuple(merge) for merge in spec["model"]["merges"]]
    theirs = sorted(ours, key=lambda pair: (vocab["".join(pair)], vocab[pair[0]], vocab[pair[1]]))
    assert theirs != ours
    spec["model"]["merges"] = [" ".join(pair) for pair in theirs]
    assert meta_lines(spec, llama3.file) == llama3.file.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "has a normalizer, which GGUF has no place for: .*NFC.*; convert --to hf"),
        ({"model": {"ignore_merges": True}}, "has ignore_merges true, and llama.cpp the opposite .*smollm"),
    ],
)
def test_what_gguf_cannot_say_of_a_tokenizer_is_refused(
    smollm2: Tokenizer, changes: dict[str, Any], message: str
) -> None:
    spec = spec_of(smollm2.file)
    assert pre_tokenizer_name(spec, smollm2.file) == "smollm"
    with pytest.raises(CallamaError, match=message):
        pre_tokenizer_name({**spec, **changes, "model": {**spec["model"], **changes.get("model", {})}}, smollm2.file)


def test_llama_3s_words_want_ignore_merges(llama3: Tokenizer) -> None:
    spec = spec_of(llama3.file)
    assert pre_tokenizer_name(spec, llama3.file) == "llama-bpe"
    del spec["model"]["ignore_merges"]
    with pytest.raises(CallamaError, match=r"has ignore_merges false, and llama.cpp the opposite .*\(llama-bpe\)"):
        pre_tokenizer_name(spec, llama3.file)


def test_reserved_tokens_of_llama_3_0_have_other_numbers(llama3: Tokenizer) -> None:
    spec = spec_of(llama3.file)
    next(t for t in spec["added_tokens"] if t["id"] == 128_008)["content"] = "<|reserved_special_token_4|>"
    assert meta_lines(spec, llama3.file) == llama3.file.read_bytes()
