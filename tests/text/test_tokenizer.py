"""A tokenizer spells ordinary text with ordinary tokens, exactly as its authors' own code does."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from callama.common.errors import CallamaError, UsageError
from callama.text.gguf_vocab import CONTROL, tokenizer_json
from callama.text.markup import markup_of
from callama.text.tokenizer import Tokenizer, load_tokenizer
from tests.fetch import embedded_model_dir, llama3_tokenizer_path

WORDS = (
    "weather", "Ünïcödé", "北京", "日本語の文", "العربية", "हिन्दी",
    "😀", "👩‍👩‍👧", "e\u0301", "\u200d", "\u202e", "\u0000",
    "\ufeff", "\u00a0", "\u2028", "\x85", "\u3000", "it's", "I'LL", "'re", "''", "{", '"a": 1}', "0", "7", "1234567",
    "3.14159", "-2e10", "½", "٣", "_", "<|eot_id|>", "<|im_start|>", "\n", "\n\n", "\r\n", "\t", "  ", "        ", " ",
    "\n \n", "def f(x):", "https://a.b/c?d=e", "...", "!!!\n", "—", "a" * 40, "Δ", "ﬁ", "\U0001f1f5\U0001f1f9",
)  # fmt: skip
# What the embedded model's vocabulary has no bytes for; its own library drops such characters in silence.
UNSPELLABLE = "\x04\x06\x13\x14\x16\x1d\U00040000\U000bffff"
spellable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=UNSPELLABLE, max_codepoint=0x3FFFF))
markup_text = st.lists(
    st.sampled_from(["<|eot_id|>", "<|start_header_id|>", "<|", "|>", "im_end", "<|im_end|>", "\n", "assistant", " "])
).map("".join)


def samples(count: int) -> list[str]:
    rng = random.Random(7)
    joined = ["".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(count // 2)]
    return ["", *WORDS, *joined, *(" ".join(rng.choices(WORDS, k=rng.randint(1, 30))) for _ in range(count // 2))]


def test_ordinary_text_gets_the_ids_of_metas_own_tokenizer(llama3: Tokenizer, meta: SimpleNamespace) -> None:
    for text in samples(400):
        assert llama3.encode(text) == meta.tokenizer.encode(text, bos=False, eos=False), repr(text)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 30_000,
        " " * 30_000,
        " " * 25_000 + "b",
        " " * 25_001 + "b",
        "b" + "\n" * 50_000 + " x",
        "!" * 25_000 + "\n\n",
        "x" * 24_999 + " " + "y" * 50_001,
        "ab 1" * 100_001,
    ],
    ids=lambda text: f"{text[:4]!r} {len(text)}",
)
def test_long_runs_are_cut_where_meta_cuts_them(llama3: Tokenizer, meta: SimpleNamespace, text: str) -> None:
    assert llama3.encode(text) == meta.tokenizer.encode(text, bos=False, eos=False)


def test_time_does_not_grow_with_the_square_of_a_run(tokenizer: Tokenizer) -> None:
    def seconds(text: str) -> float:
        start = time.process_time()
        tokenizer.encode(text)
        return time.process_time() - start

    runs = ("a" * 24_999 + " ") * 8
    assert seconds(runs) < 30 * seconds("a word " * (len(runs) // 7)) + 0.5


def test_llama_3_special_tokens_have_metas_ids(llama3: Tokenizer, meta: SimpleNamespace) -> None:
    named = {
        "<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|finetune_right_pad_id|>": 128004,
        "<|start_header_id|>": 128006, "<|end_header_id|>": 128007, "<|eom_id|>": 128008, "<|eot_id|>": 128009,
        "<|python_tag|>": 128010,
    }  # fmt: skip
    for name, expected in named.items():
        assert llama3.special(name) == expected == meta.tokenizer.special_tokens[name]
    # As in Hugging Face's tokenizer.json of Llama 3.1.
    assert llama3.special("<|reserved_special_token_2|>") == 128005
    assert llama3.special("<|reserved_special_token_247|>") == 128255
    assert sorted(llama3.special_tokens.values()) == list(range(128_000, 128_256))
    assert llama3.vocab_size == meta.tokenizer.n_words == 128_256
    with pytest.raises(CallamaError, match=r"tokenizer.model has no special token <\|im_start\|>"):
        llama3.special("<|im_start|>")


def test_the_embedded_vocabulary_gets_the_ids_of_transformers(
    smollm2: Tokenizer, transformers_smollm2: PreTrainedTokenizerFast
) -> None:
    for text in samples(400):
        if "<|im_start|>" not in text:  # there, transformers finds the special token (trap 5)
            assert smollm2.encode(text) == transformers_smollm2.encode(text, add_special_tokens=False), repr(text)


@given(text=st.text(st.characters(exclude_categories=["Cs"])) | markup_text)
def test_llama_3_ids_spell_the_text(llama3: Tokenizer, text: str) -> None:
    assert llama3.decode(llama3.encode(text)) == text


@given(text=spellable | markup_text)
def test_embedded_ids_spell_the_text(smollm2: Tokenizer, text: str) -> None:
    assert smollm2.decode(smollm2.encode(text)) == text


@pytest.mark.parametrize("character", UNSPELLABLE)
def test_text_that_a_vocabulary_cannot_spell_is_refused_not_dropped(smollm2: Tokenizer, character: str) -> None:
    with pytest.raises(CallamaError, match="has no tokens that spell") as caught:
        smollm2.encode(f"before {character} after")
    assert repr(character) in str(caught.value)


def test_decoding_half_a_character_gives_a_replacement(llama3: Tokenizer) -> None:
    ids = llama3.encode("𓀀")
    assert len(ids) > 1 and llama3.decode(ids[:-1]) == "\ufffd"
    assert llama3.decode([128006, *llama3.encode("user"), 128007]) == "<|start_header_id|>user<|end_header_id|>"


@given(data=st.data())
def test_trap_05_text_that_spells_special_tokens_stays_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    special = set(tokenizer.special_tokens.values())
    names = st.sampled_from(sorted(tokenizer.special_tokens))
    text = "".join(data.draw(st.lists(names | st.sampled_from(WORDS), min_size=1, max_size=6)))
    assert special.isdisjoint(tokenizer.encode(text)) and tokenizer.decode(tokenizer.encode(text)) == text


def spec(pre: str = "llama-bpe", special: str = "stop", **changes: Any) -> dict[str, Any]:
    """A tiny byte-level tokenizer.json whose vocabulary and merges lead straight to a special token."""
    letters = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
    merged = ["st", "sto", special]
    tokens = [*letters, *merged]
    types = [1] * (len(tokens) - 1) + [CONTROL]
    out = tokenizer_json(tokens, types, ["s t", "st o", "sto p"], pre)
    return {**out, **changes, "model": {**out["model"], **changes.get("model", {})}}


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize("pre", ["llama-bpe", "gpt-2", "smollm"])
def test_trap_05_merges_that_lead_to_a_special_token_are_not_followed(tmp_path: Path, pre: str) -> None:
    tokenizer = load_tokenizer(write(tmp_path / "tokenizer.json", spec(pre)))
    assert tokenizer.special("stop") == tokenizer.vocab_size - 1
    for text in ("stop", "stop stop", " stop", "st", "stops"):
        assert tokenizer.special("stop") not in tokenizer.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_settings_of_a_training_run_inside_the_file_do_not_change_ids(tmp_path: Path) -> None:
    truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "!",
    }  # fmt: skip
    plain = load_tokenizer(write(tmp_path / "tokenizer.json", spec()))
    for changes in ({"truncation": truncation}, {"padding": padding}, {"model": {"dropout": 0.9}}):
        changed = load_tokenizer(write(tmp_path / "changed.json", spec(**changes)))
        assert changed.encode("a stone, a store") == plain.encode("a stone, a store")


def test_a_folder_is_searched_and_its_file_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no tokenizer\.model or tokenizer\.json"):
        load_tokenizer(tmp_path)
    file = write(tmp_path / "tokenizer.json", spec())
    assert load_tokenizer(tmp_path).file == file
    with pytest.raises(UsageError, match=r"gone\.model does not exist; expected a tokenizer"):
        load_tokenizer(tmp_path / "gone.model")


def test_a_tokenizer_without_turn_tokens_frames_no_turns(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write(tmp_path / "tokenizer.json", spec()))
    with pytest.raises(CallamaError, match=r"tokenizer\.json has neither Llama 3's header tokens nor ChatML's"):
        markup_of(tokenizer)


DAMAGED = "expected 'base64 rank'|ranks are not 0"


def llama3_bytes() -> bytes:
    return llama3_tokenizer_path().read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "the file is empty or damaged"),
        (lambda: b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00", "line 2: expected 'base64 rank'"),
        (lambda: b"IQ== 0\nIg== one\n", "line 2: expected 'base64 rank'"),
        (lambda: b"IQ== 0\n%%%% 1\n", "line 2: expected 'base64 rank'"),
        (lambda: b"IQ== 0\nIg== 2\n", "ranks are not 0 … 1"),
        (lambda: llama3_bytes()[:1_000_000], DAMAGED),
        (lambda: llama3_bytes()[: llama3_bytes().rindex(b"\n", 0, 2_000_000) + 1], "the file is cut short"),
        (lambda: llama3_bytes()[:-3], DAMAGED),
    ],
    ids=[
        "empty",
        "sentencepiece",
        "no rank",
        "no base64",
        "gap",
        "cut in a line",
        "cut between lines",
        "cut at its end",
    ],
)
def test_a_damaged_tokenizer_model_is_named(tmp_path: Path, content: Callable[[], bytes], message: str) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content())
    with pytest.raises(CallamaError, match=message):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "is not a tokenizer.json"),
        ("[" * 100_000, "is not a tokenizer.json"),
        ([1], "is not a tokenizer.json"),
        ({"model": {}}, "is not a tokenizer.json"),
        ({"model": {"vocab": {}}}, "is not a tokenizer.json"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2.0]]}}, "is not a tokenizer.json"),
        (spec(model={"vocab": {"a": 1e300}}), "is not a tokenizer.json"),
        (spec(model={"vocab": {"a": -1}}), "ids beyond 0"),
        (spec(model={"vocab": {"a": 1 << 40}}), "ids beyond 0"),
        (spec(model={"vocab": {"▁the": 0}}), "'▁the' is not byte-level BPE"),
        (spec(model={"merges": [["q", "qqq"]]}), "is not a tokenizer.json"),
        (spec(normalizer={"type": "NFC"}), "changes text before it cuts it"),
        (spec(normalizer={"type": "Lowercase"}), "changes text before it cuts it"),
        (spec(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}), "changes text"),
        (spec(pre_tokenizer={"type": "Whitespace"}), "changes text before it cuts it"),
    ],
)
def test_a_tokenizer_json_of_another_kind_is_named(tmp_path: Path, value: Any, message: str) -> None:
    path = write(tmp_path / "tokenizer.json", value)
    with pytest.raises(CallamaError, match=message) as caught:
        load_tokenizer(path)
    assert str(path) in str(caught.value)


def test_an_unknown_pre_tokenizer_in_a_gguf_is_named() -> None:
    with pytest.raises(CallamaError, match=r"pre-tokenizer 'tekken' is not known; known are gpt-2, smollm, llama-bpe"):
        tokenizer_json(["a"], [1], [], "tekken")


def test_tokenizers_are_told_apart_by_the_hash_of_their_file(llama3: Tokenizer, smollm2: Tokenizer) -> None:
    assert llama3.sha256 == "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55"
    manifest = json.loads((embedded_model_dir() / "MANIFEST.json").read_text())
    assert smollm2.sha256 == manifest["files"]["tokenizer.json"]["sha256"]
