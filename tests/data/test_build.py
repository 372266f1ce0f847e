"""Building: everything that was read is in the data set or in quarantine, and the file is plain Arrow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest, sha256_file
from callama.contract.messages import Conversation, Message, Tool
from callama.contract.spans import Kind
from callama.data.build import QUARANTINE, build, round_trip_fault
from callama.data.dataset import Dataset, Example, write_examples
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer
from tests import tiny


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json").file


def quarantined(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / QUARANTINE).read_text().splitlines()]


def mixed() -> Iterator[Conversation]:
    yield from map(tiny.conversation, range(20))
    user = Message("user", "Show me a call.")
    # Text that a parser would take for a call can be neither trained nor read back.
    yield Conversation((user, Message("assistant", '{"tool_uses": []}')), (Tool("get_weather"),))
    yield Conversation((user, Message("assistant", "word " * 500)), (Tool("get_news"),))
    yield Conversation((user,), (Tool("get_time"),))


def test_read_is_kept_plus_dropped_and_each_drop_has_its_reason(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", mixed())
    metadata = build([source], tokenizer, tmp_path / "built", val_ratio=0.2, max_tokens=400)
    kept = {side: Dataset(tmp_path / "built" / f"{side}.arrow") for side in ("train", "validation")}
    assert metadata["read"] == 23
    assert metadata["dropped"] == {"no_answer": 1, "too_long": 1, "unrenderable": 1}
    assert metadata["read"] == sum(map(len, kept.values())) + sum(metadata["dropped"].values())
    assert len(kept["validation"]) > 0 and metadata["functions_on_both_sides"] == 0
    lines = {line["record"]: line for line in quarantined(tmp_path / "built")}
    assert {number: line["reason"] for number, line in lines.items()} == {
        20: "unrenderable",
        21: "too_long",
        22: "no_answer",
    }
    assert "would be read as a call" in lines[20]["detail"] and "limit is 400" in lines[21]["detail"]
    assert Conversation.from_dict(lines[21]["conversation"]).messages[1].content == "word " * 500
    sources = [kept[side][i].source for side in kept for i in range(len(kept[side]))]
    assert sorted(sources) == list(range(20))


def test_straddling_conversations_are_quarantined(tmp_path: Path, tokenizer: Path) -> None:
    def chain(*names: int) -> Conversation:
        tools = tuple(Tool(f"f{n}") for n in names)
        return Conversation((Message("user", "hi"), Message("assistant", f"Hello {names[0]}.")), tools)

    conversations = [chain(i, i + 1) for i in range(20)] + [chain(i) for i in range(21)]
    source = tiny.write_conversations(tmp_path / "in.jsonl", conversations)
    metadata = build([source], tokenizer, tmp_path / "built", val_ratio=0.15)
    assert metadata["dropped"]["straddles_split"] == len(quarantined(tmp_path / "built")) > 0
    kept = metadata["train"]["conversations"] + metadata["validation"]["conversations"]
    assert metadata["read"] == kept + metadata["dropped"]["straddles_split"]
    assert metadata["functions_on_both_sides"] == 0 and metadata["validation"]["conversations"] > 0


def test_supervised_tokens_spell_what_the_assistant_said(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", [tiny.conversation(0), tiny.conversation(1)])
    build([source], tokenizer, tmp_path / "all", val_ratio=0)
    build([source], tokenizer, tmp_path / "last", val_ratio=0, train_on="last")
    decode = load_tokenizer(tokenizer).decode
    call = '{"tool_uses": [{"recipient_name": "functions.get_weather", "parameters": {"city": "Oslo"}}]}<|im_end|>'
    answer = "The weather in Oslo is 7.<|im_end|>"
    for name, expected in (("all", call + answer), ("last", answer)):
        example = Dataset(tmp_path / name / "train.arrow")[0]
        assert decode(example.input_ids[example.supervised]) == expected


def test_metadata_says_what_training_must_know(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", map(tiny.conversation, range(20)))
    returned = build([source], tokenizer, tmp_path / "built", val_ratio=0.25, seed=5, train_on="last")
    metadata = json.loads((tmp_path / "built" / "metadata.json").read_text())
    assert metadata == returned
    assert (metadata["dialect"], metadata["markup"], metadata["seed"]) == ("tool_uses", "chatml", 5)
    assert metadata["train_on"] == "last" and metadata["tokenizer_sha256"] == sha256_file(tokenizer)
    assert metadata["sources"] == [{"file": "in.jsonl", "sha256": sha256_file(source)}]
    for side in ("train", "validation"):
        data = Dataset(tmp_path / "built" / f"{side}.arrow")
        report = metadata[side]
        assert report["conversations"] == len(data)
        assert report["tokens"] == data.lengths.sum() == sum(report["tokens_by_kind"].values())
        counted = Counter(k for i in range(len(data)) for k in data[i].kinds.tolist())
        assert report["tokens_by_kind"] == {kind.name.lower(): counted[kind] for kind in Kind}
        assert report["supervised_tokens"] == sum(int(data[i].supervised.sum()) for i in range(len(data)))
        assert (report["length_tokens"]["min"], report["length_tokens"]["max"]) == (
            min(data.lengths),
            max(data.lengths),
        )
    assert set(read_manifest(tmp_path / "built")["files"]) == {
        "train.arrow", "validation.arrow", "metadata.json", "quarantine.jsonl"
    }  # fmt: skip


def test_the_file_is_plain_arrow_for_any_reader(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", map(tiny.conversation, range(3)))
    build([source], tokenizer, tmp_path / "built", val_ratio=0)
    with pa.memory_map(str(tmp_path / "built" / "train.arrow")) as file:
        rows = pa.ipc.open_file(file).read_all().to_pylist()
    assert [row["functions"] for row in rows] == [["get_weather"], ["get_news"], ["get_time"]]
    assert [row["scenario"] for row in rows] == ["answer_from_result", "single", "single"]
    rendered = Renderer(load_tokenizer(tokenizer)).conversation(tiny.conversation(1))
    assert (rows[1]["input_ids"], rows[1]["kinds"]) == (rendered.ids, rendered.kinds)
    assert rows[1]["supervised"] == rendered.supervised()


def test_a_data_set_larger_than_a_batch_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "many.arrow"
    lengths = [2 + i % 5 for i in range(2100)]
    examples = (
        Example(np.full(n, i, np.int32), np.zeros(n, np.int8), np.ones(n, np.bool_)) for i, n in enumerate(lengths)
    )
    assert write_examples(path, examples) == 2100
    data = Dataset(path)
    assert data.lengths.tolist() == lengths
    assert all(data[i].input_ids.tolist() == [i] * lengths[i] for i in (0, 1023, 1024, 2099))


def test_building_twice_gives_the_same_bytes(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", mixed())
    for name in ("a", "b"):
        build([source], tokenizer, tmp_path / name, val_ratio=0.2, max_tokens=400)
    assert read_manifest(tmp_path / "a") == read_manifest(tmp_path / "b")


def test_several_sources_are_joined(tmp_path: Path, tokenizer: Path) -> None:
    first = tiny.write_conversations(tmp_path / "a.jsonl", map(tiny.conversation, range(3)))
    second = tmp_path / "b.json"
    second.write_text(json.dumps([tiny.conversation(i).to_dict() for i in range(3, 5)]))
    metadata = build([first, second], tokenizer, tmp_path / "built", val_ratio=0)
    assert (metadata["read"], [s["file"] for s in metadata["sources"]]) == (5, ["a.jsonl", "b.json"])


def test_a_failure_leaves_the_earlier_build_untouched(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", map(tiny.conversation, range(8)))
    build([source], tokenizer, tmp_path / "built", val_ratio=0)
    before = read_manifest(tmp_path / "built")
    source.write_text(source.read_text() + '{"messages": [{"role": "robot"}]}\n')
    with pytest.raises(CallamaError, match=r"in\.jsonl, line 9: message 0: role must be one of"):
        build([source], tokenizer, tmp_path / "built", val_ratio=0)
    tiny.write_conversations(source, [Conversation((Message("user", "only a question"),))])
    with pytest.raises(CallamaError, match=r"no conversation is left to train on.*no_answer"):
        build([source], tokenizer, tmp_path / "built", val_ratio=0)
    assert read_manifest(tmp_path / "built") == before
    assert len(Dataset(tmp_path / "built" / "train.arrow")) == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["built", "in.jsonl"]


def test_wrong_use_is_told_before_any_work(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", [tiny.conversation(0)])
    empty_lines, empty_list = tmp_path / "empty.jsonl", tmp_path / "empty.json"
    empty_lines.write_text("")
    empty_list.write_text("[]")
    out = tmp_path / "built"
    for ratio in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="--val-ratio"):
            build([source], tokenizer, out, val_ratio=ratio)
    with pytest.raises(UsageError, match=r"none\.jsonl does not exist"):
        build([tmp_path / "none.jsonl"], tokenizer, out)
    with pytest.raises(UsageError, match=r"none\.model does not exist"):
        build([source], tmp_path / "none.model", out)
    with pytest.raises(CallamaError, match=r"empty\.jsonl is empty"):
        build([empty_lines], tokenizer, out)
    with pytest.raises(CallamaError, match=r"empty\.json is an empty list"):
        build([empty_list], tokenizer, out)
    raw = tmp_path / "raw.jsonl"
    raw.write_text(json.dumps({"system": "SYSTEM: x", "chat": "USER: hi"}))
    with pytest.raises(CallamaError, match="raw glaive data: run `callama clean`"):
        build([raw], tokenizer, out)
    assert not out.exists()


def test_what_does_not_read_back_is_found(tokenizer: Path) -> None:
    renderer = Renderer(load_tokenizer(tokenizer))
    first, other = tiny.conversation(1), tiny.conversation(2)
    assert round_trip_fault(first, renderer.conversation(first), renderer) is None
    assert "read back as call" in (round_trip_fault(first, renderer.conversation(other), renderer) or "")
    longer = renderer.conversation(tiny.conversation(0))
    assert "became 2 answers" in (round_trip_fault(first, longer, renderer) or "")


def test_trap_15_pickles_are_not_opened(tmp_path: Path) -> None:
    pickle = tmp_path / "train.pk"
    pickle.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UsageError, match=r"a pickle can run code; build it again .*train\.arrow"):
        Dataset(pickle)


def test_files_that_are_no_data_set_are_named(tmp_path: Path) -> None:
    damaged, foreign = tmp_path / "damaged.arrow", tmp_path / "foreign.arrow"
    for content in (b"", b"not arrow at all"):
        damaged.write_bytes(content)
        with pytest.raises(CallamaError, match=r"damaged\.arrow is not a data set built by callama"):
            Dataset(damaged)
    table = pa.table({"text": ["a"]})
    with pa.OSFile(str(foreign), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CallamaError, match=r"foreign\.arrow has columns \['text'\]"):
        Dataset(foreign)
    with pytest.raises(UsageError, match=r"none\.arrow does not exist; build it"):
        Dataset(tmp_path / "none.arrow")
