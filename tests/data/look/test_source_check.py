"""The round-trip check: sound data passes whole, and each way to break a record is found and shown."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from callama.common.errors import CallamaError, UsageError
from callama.common.terminal import visible
from callama.contract.messages import Conversation, Message, Tool
from callama.contract.spans import Kind
from callama.data.build import build
from callama.data.dataset import Dataset, Example
from callama.data.example import example_of
from callama.data.look.check import check, conversation_fault, example_fault
from callama.data.look.runs import runs_of
from callama.data.look.source import open_source
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer
from tests import tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tokenizer.json``, ``in.jsonl`` and ``built``; not to be changed."""
    root = tmp_path_factory.mktemp("look")
    tiny.write_tokenizer(root / "tokenizer.json")
    source = tiny.write_conversations(root / "in.jsonl", map(tiny.conversation, range(20)))
    build([source], root / "tokenizer.json", root / "built", val_ratio=0.25)
    return root


@pytest.fixture(scope="module")
def renderer(world: Path) -> Renderer:
    return Renderer(load_tokenizer(world / "tokenizer.json"))


def test_sound_data_passes_whole(world: Path) -> None:
    said = check(open_source(world / "in.jsonl", world / "tokenizer.json"))
    built = check(open_source(world / "built", None))
    for done in (said, built):
        assert (done.conversations, done.offenders, done.first) == (20, 0, None)
        assert done.answers == {"call": 20, "text": 5}
    sides = [check(open_source(world / "built" / f"{side}.arrow", None)) for side in ("train", "validation")]
    assert sum(done.conversations for done in sides) == 20 and all(done.conversations for done in sides)


def test_two_workers_find_the_same(world: Path, tmp_path: Path) -> None:
    broken = Conversation((Message("user", "x"), Message("assistant", '{"tool_uses": []}')))
    rows = [*map(tiny.conversation, range(300)), broken, *map(tiny.conversation, range(300)), broken]
    source = open_source(tiny.write_conversations(tmp_path / "in.jsonl", rows), world / "tokenizer.json")
    one, two = (check(source, workers) for workers in (1, 2))
    assert one == two and one.offenders == 2
    assert one.first is not None and one.first.record == 300


def test_a_conversation_that_cannot_be_rendered_is_shown_as_text(renderer: Renderer) -> None:
    broken = Conversation((Message("user", "x"), Message("assistant", '{"tool_uses": []}')))
    assert conversation_fault(broken, renderer).startswith("cannot be rendered: assistant text would be read as a call")


def test_text_that_does_not_read_back_is_a_fault(renderer: Renderer) -> None:
    # A result that is JSON in another spelling comes back in the canonical one.
    call = tiny.conversation(0)
    results = [replace(m, content='{"value":7}') if m.role == "tool" else m for m in call.messages]
    fault = conversation_fault(replace(call, messages=tuple(results)), renderer)
    assert fault.startswith("message 2 reads back as") and '{"value": 7}' in fault
    assert conversation_fault(call, renderer) == ""


def changed(example: Example, how: str) -> Example:
    """A built row that is broken in one way."""
    ids, kinds, supervised = (np.array(a) for a in (example.input_ids, example.kinds, example.supervised))
    (said,) = np.nonzero(kinds)
    value = int(np.flatnonzero(kinds == Kind.ARGUMENT_VALUE)[0])
    match how:
        case "prompt supervised":
            supervised[0] = True
        case "half supervised":
            supervised[said[0]] = False
        case "end missing":
            kinds[said[-1]] = Kind.PROMPT
            supervised[said[-1]] = False
        case "call cut":
            keep = [i for i in range(len(ids)) if i != said[-2]]
            ids, kinds, supervised = ids[keep], kinds[keep], supervised[keep]
        case "wrong kind":
            kinds[value] = Kind.ARGUMENT_KEY
        case "unlisted function":
            return replace(example, functions=("other",))
        case "wrong answers":
            return replace(example, answers=("text",))
        case "nothing":
            supervised[:] = False
    return replace(example, input_ids=ids, kinds=kinds, supervised=supervised)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("prompt supervised", "a token of the prompt is supervised"),
        ("half supervised", "is supervised in part"),
        ("end missing", "does not end with <|im_end|>"),
        ("call cut", "does not parse"),
        ("wrong kind", "is rendered to other tokens than these"),
        ("unlisted function", "calls get_news, which the row does not list"),
        ("wrong answers", "the answers are ['call'], the row says ['text']"),
        ("nothing", "nothing is supervised"),
    ],
)
def test_each_broken_row_is_found(renderer: Renderer, how: str, words: str) -> None:
    example = example_of(tiny.conversation(1), renderer, "all", 1000)
    assert example_fault(example, renderer) == ""
    assert words in example_fault(changed(example, how), renderer)


def test_the_first_broken_row_of_a_built_set_is_named(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "built", tmp_path / "built")
    file = tmp_path / "built" / "train.arrow"
    data = Dataset(file)
    rows = [data[i] for i in range(len(data))]
    rows[3] = replace(rows[3], answers=("calls",))
    tiny.write_examples(tmp_path / "changed.arrow", rows)
    (tmp_path / "changed.arrow").replace(file)
    done = check(open_source(tmp_path / "built", None))
    assert done.offenders == 1 and done.first is not None
    assert (done.first.side, done.first.record) == ("train", 3)
    assert done.to_dict()["first"]["fault"] == done.first.fault
    trained = "".join(run.text for run in done.first.runs if run.trained)
    assert trained.startswith('{"tool_uses": [') and trained.endswith("<|im_end|>")


def test_runs_spell_the_tokens_and_hide_nothing(renderer: Renderer) -> None:
    hostile = "a\x1b[31mred\x1b[0m \u202ereversed \u2028 déjà 👩‍👩‍👧\n\ttab"
    conversation = Conversation((Message("user", hostile), Message("assistant", "Déjà vu 👩‍👩‍👧!")), (Tool("f"),))
    rendered = renderer.conversation(conversation)
    runs = runs_of(rendered.ids, rendered.kinds, rendered.supervised(), renderer.tokenizer)
    text = "".join(run.text for run in runs)
    assert text == visible(renderer.tokenizer.decode(rendered.ids))
    assert "\\u001b[31mred\\u001b[0m \\u202ereversed \\u2028 déjà 👩‍👩‍👧\n\ttab" in text
    assert [(run.kind, run.trained) for run in runs] == [
        (Kind.PROMPT, False), (Kind.TEXT, True), (Kind.END_OF_TURN, True), (Kind.PROMPT, False)
    ]  # fmt: skip


def test_what_cannot_be_opened_is_told(world: Path, tmp_path: Path) -> None:
    other = tiny.write_tokenizer(tmp_path / "other.json", vocab_size=350).file
    with pytest.raises(UsageError, match=r"in\.jsonl is not a built data set; name a tokenizer with --tokenizer"):
        open_source(world / "in.jsonl", None)
    with pytest.raises(UsageError, match=r"none\.jsonl does not exist"):
        open_source(tmp_path / "none.jsonl", other)
    with pytest.raises(UsageError, match=r"holds no train\.arrow"):
        open_source(tmp_path, None)
    with pytest.raises(UsageError, match=r"other\.json has sha256 .* the data set was built with"):
        open_source(world / "built", other)
    shutil.copytree(world / "built", tmp_path / "built")
    metadata = tmp_path / "built" / "metadata.json"
    metadata.write_text(metadata.read_text().replace(str(world / "tokenizer.json"), "gone.json"))
    with pytest.raises(UsageError, match=r"names the tokenizer gone\.json, which is not here"):
        open_source(tmp_path / "built", None)
    assert open_source(tmp_path / "built", world / "tokenizer.json").built
    # As it was typed, from a folder above the data set: it is found from anywhere.
    shutil.copy(world / "tokenizer.json", tmp_path / "gone.json")
    assert open_source(tmp_path / "built", None).built
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text('{"messages": 3}\n')
    with pytest.raises(CallamaError, match=r"damaged\.jsonl, line 1"):
        check(open_source(damaged, other))
