"""Building: everything that was read is in the data set or in quarantine, and the file is plain Arrow."""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from callama.cli.build import print_summary
from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest, sha256_file
from callama.contract.messages import Conversation, Message, Tool
from callama.contract.spans import Kind
from callama.data.build import QUARANTINE, build
from callama.data.dataset import Dataset, Example
from callama.data.example import example_of, round_trip_fault
from callama.synth.write import write_sets
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
    assert len(kept["validation"]) > 0
    assert metadata["leakage"]["validation_functions_seen_in_training"] == 0
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
    assert metadata["leakage"]["validation_functions_seen_in_training"] == 0
    assert metadata["validation"]["conversations"] > 0


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
    assert metadata["sources"] == [
        {"file": "in.jsonl", "sha256": sha256_file(source), "read": 20, "train": 15, "validation": 5, "dropped": {}}
    ]
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


def test_it_opens_in_hugging_face_datasets(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    source = tiny.write_conversations(tmp_path / "in.jsonl", map(tiny.conversation, range(20)))
    build([source], tokenizer, tmp_path / "built", val_ratio=0.25)
    files = {side: str(tmp_path / "built" / f"{side}.arrow") for side in ("train", "validation")}
    loaded = datasets.load_dataset("arrow", data_files=files, cache_dir=str(tmp_path / "cache"))
    for side in files:
        ours = Dataset(Path(files[side]))
        assert len(loaded[side]) == len(ours) > 0
        assert loaded[side][0]["input_ids"] == ours[0].input_ids.tolist()
        assert loaded[side][0]["supervised"] == ours[0].supervised.tolist()
        assert tuple(loaded[side][0]["functions"]) == ours[0].functions


def test_a_data_set_larger_than_a_batch_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "many.arrow"
    lengths = [2 + i % 5 for i in range(2100)]
    examples = (
        Example(np.full(n, i, np.int32), np.zeros(n, np.int8), np.ones(n, np.bool_)) for i, n in enumerate(lengths)
    )
    tiny.write_examples(path, examples)
    data = Dataset(path)
    assert data.lengths.tolist() == lengths and len(list(data.batches())) == 3
    assert all(data[i].input_ids.tolist() == [i] * lengths[i] for i in (0, 1023, 1024, 2099))


def test_building_twice_gives_the_same_bytes(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", mixed())
    for name in ("a", "b"):
        build([source], tokenizer, tmp_path / name, val_ratio=0.2, max_tokens=400)
    assert read_manifest(tmp_path / "a") == read_manifest(tmp_path / "b")


def test_the_files_are_the_same_for_any_number_of_workers(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", [*map(tiny.conversation, range(600)), *mixed()])
    for workers in (1, 2):
        build([source], tokenizer, tmp_path / str(workers), val_ratio=0.2, max_tokens=400, workers=workers)
    assert read_manifest(tmp_path / "1") == read_manifest(tmp_path / "2")


def long_conversation() -> Conversation:
    """Call, result, answer; then the same again, longer."""
    tool, schema = {"name": "get_news", "parameters": {}}, {"name": "get_news", "arguments": {"city": "Oslo"}}
    messages: list[dict[str, Any]] = []
    for text in ("Rain.", "Sun, " * 40):
        messages += [
            {"role": "user", "content": "And now?"},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [{"function": schema}, {"function": schema}]},
            {"role": "tool", "content": text},
            {"role": "tool", "content": text},
            {"role": "assistant", "content": text},
        ]
    return Conversation.from_dict({"tools": [tool], "messages": messages})


def test_a_long_conversation_is_cut_behind_the_last_answer_that_fits(tmp_path: Path, tokenizer: Path) -> None:
    conversation, renderer = long_conversation(), Renderer(load_tokenizer(tokenizer))
    whole = renderer.conversation(conversation)
    ends = [end for _, end in whole.answers]
    for limit, answers in [(len(whole.ids), 4), (ends[3] - 1, 3), (ends[2], 3), (ends[2] - 1, 2), (ends[0], 1)]:
        example = example_of(conversation, renderer, "all", limit)
        n = len(example.input_ids)
        assert n <= limit and example.input_ids.tolist() == whole.ids[:n]
        assert example.supervised.tolist() == whole.supervised()[:n]
        assert example.answers == ("text+calls", "text", "text+calls", "text")[:answers]
        assert example.cut_tokens == len(whole.ids) - n
        last = example_of(conversation, renderer, "last", limit)
        assert np.flatnonzero(last.supervised)[[0, -1]].tolist() == [
            whole.answers[answers - 1][0],
            ends[answers - 1] - 1,
        ]
    with pytest.raises(CallamaError, match=rf"^too_long: \d+ tokens, its first answer ends at {ends[0]}, the limit"):
        example_of(conversation, renderer, "all", ends[0] - 1)


def test_cut_conversations_are_counted(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", [tiny.conversation(1), long_conversation()])
    metadata = build([source], tokenizer, tmp_path / "built", val_ratio=0, max_tokens=400)
    data = Dataset(tmp_path / "built" / "train.arrow")
    assert (data[0].cut_tokens, data[1].source) == (0, 1) and data[1].cut_tokens > 0
    assert metadata["train"]["cut"] == {"conversations": 1, "tokens": data[1].cut_tokens}
    assert metadata["dropped"] == {} and metadata["read"] == 2


def test_trap_14_validation_shares_no_function_and_no_near_duplicate_with_training(
    tmp_path: Path, tokenizer: Path
) -> None:
    draw = random.Random(1)

    def plain(words: list[str]) -> Conversation:
        return Conversation((Message("user", " ".join(words)), Message("assistant", "I see.")))

    drafts = [[f"{draw.choice('bdfgklm')}{draw.choice('aeiou')}{draw.randrange(99)}" for _ in range(40)]] * 3 + [
        [f"w{draw.randrange(500)}" for _ in range(40)] for _ in range(40)
    ]
    rows = [plain([*draft, f"end{i}"]) for draft in drafts for i in range(4)]
    rows += [tiny.conversation(i) for i in range(80)]
    draw.shuffle(rows)
    source = tiny.write_conversations(tmp_path / "in.jsonl", rows)
    metadata = build([source], tokenizer, tmp_path / "built", val_ratio=0.25)
    train, held = (Dataset(tmp_path / "built" / f"{side}.arrow") for side in ("train", "validation"))
    functions = [{name for i in range(len(data)) for name in data[i].functions} for data in (train, held)]
    assert functions[0] and functions[1] and not functions[0] & functions[1]

    def shingles(data: Dataset) -> list[set[tuple[str, ...]]]:
        texts = [[m.content or "" for m in rows[data[i].source].messages] for i in range(len(data))]
        words = [" ".join(text).lower().split() for text in texts]
        return [{tuple(w[i : i + 3]) for i in range(max(1, len(w) - 2))} for w in words]

    similar = [len(a & b) / len(a | b) for a in shingles(held) for b in shingles(train)]
    assert len(held) > 30 and max(similar) < 0.8
    assert metadata["leakage"] == {
        "validation_functions_seen_in_training": 0,
        "near_duplicate_pairs_across": 0,
        "near_duplicate_similarity": 0.85,
    }


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


def test_a_build_replaces_neither_its_source_nor_its_model(tmp_path: Path, tokenizer: Path) -> None:
    """Both may lie in folders that callama wrote, and may replace with their like."""
    write_sets(tmp_path / "demo", 20, 4, val_ratio=0.2, seed=1)
    before = sha256_file(tmp_path / "demo" / "train.jsonl"), sha256_file(tmp_path / "demo" / "held_out.jsonl")
    source = tmp_path / "demo" / "train.jsonl"
    for out in (tmp_path / "demo", tmp_path / "demo" / "built"):
        with pytest.raises(UsageError, match="is also the source, or lies inside it"):
            build([source], tokenizer, out)
    with pytest.raises(UsageError, match="is also where the tokenizer is"):
        build([tiny.write_conversations(tmp_path / "in.jsonl", mixed())], tokenizer, tokenizer.parent)
    with pytest.raises(UsageError, match=r"holds what its MANIFEST.json calls 'conversations', not 'built data set'"):
        build([tmp_path / "in.jsonl"], tokenizer, tmp_path / "demo")
    assert before == (sha256_file(source), sha256_file(tmp_path / "demo" / "held_out.jsonl"))


def test_what_is_cut_alike_stands_on_one_side(tmp_path: Path, tokenizer: Path) -> None:
    """Forty talks with ten beginnings; what tells them apart lies behind the cut."""

    def talk(number: int) -> Conversation:
        words = random.Random(number % 10).choices([f"word{i}" for i in range(50)], k=60)
        tail = random.Random(number).choices([f"tail{i}" for i in range(50)], k=200)
        said = (("user", " ".join(words)), ("assistant", "Yes."), ("user", " ".join(tail)), ("assistant", "No."))
        return Conversation(tuple(Message(role, text) for role, text in said))

    source = tiny.write_conversations(tmp_path / "in.jsonl", map(talk, range(40)))
    build([source], tokenizer, tmp_path / "built", val_ratio=0.3, max_tokens=500)
    train, validation = (Dataset(tmp_path / "built" / f"{side}.arrow") for side in ("train", "validation"))
    shown = [{bytes(of[i].input_ids) for i in range(len(of))} for of in (train, validation)]
    assert train[0].cut_tokens and len(train) + len(validation) == 40 and shown[1] and not shown[0] & shown[1]


def test_what_is_labelled_as_a_test_is_not_trained_on(tmp_path: Path, tokenizer: Path) -> None:
    sides = ["train"] * 8 + ["validation"] * 4 + ["held_out"] * 4
    labelled = [replace(tiny.conversation(i), labels={"split": side}) for i, side in enumerate(sides)]
    source = tiny.write_conversations(tmp_path / "in.jsonl", labelled)
    metadata = build([source], tokenizer, tmp_path / "built")
    assert (metadata["train"]["conversations"], metadata["validation"]["conversations"]) == (8, 4)
    assert metadata["dropped"] == {"other_split": 4}
    # A file of nothing else is data like any other.
    alone = tiny.write_conversations(tmp_path / "alone.jsonl", labelled[12:])
    assert build([alone], tokenizer, tmp_path / "other", val_ratio=0)["train"]["conversations"] == 4


def test_bytes_that_are_no_text_in_a_key_that_is_not_read(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", [tiny.conversation(0), tiny.conversation(1)])
    lines = source.read_bytes().splitlines()
    source.write_bytes(lines[0][:-1] + b', "note": "caf\xe9"}\n' + lines[1] + b"\n")
    assert build([source], tokenizer, tmp_path / "built", val_ratio=0)["train"]["conversations"] == 2


def test_sources_of_one_name_are_told_apart(tmp_path: Path, tokenizer: Path) -> None:
    sources = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        sources.append(
            tiny.write_conversations(tmp_path / folder / "in.jsonl", [Conversation((Message("user", "Hi"),))])
        )
    sources.append(tiny.write_conversations(tmp_path / "c.jsonl", [tiny.conversation(0)]))
    metadata = build(sources, tokenizer, tmp_path / "built", val_ratio=0)
    assert [source["file"] for source in metadata["sources"]] == [
        "a/in.jsonl",
        "b/in.jsonl",
        f"{tmp_path.name}/c.jsonl",
    ]
    assert [line["file"] for line in quarantined(tmp_path / "built")] == ["a/in.jsonl", "b/in.jsonl"]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_beside_an_answer_are_counted_and_told(
    key: str, tmp_path: Path, tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", map(tiny.conversation, range(20)))
    records = [json.loads(line) for line in source.read_text().splitlines()]
    plain = build([source], tokenizer, tmp_path / "plain")
    for record in records[:7]:
        answer = next(message for message in record["messages"] if message["role"] == "assistant")
        answer[key] = "It asks for the weather."
    records[8]["messages"][-1][key] = " "
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    metadata = build([source], tokenizer, tmp_path / "built", workers=2)
    assert (plain["reasoning_cut"], metadata["reasoning_cut"]) == (0, 7)
    print_summary(plain, tmp_path)
    assert "reasoning_cut" not in capsys.readouterr().out
    print_summary(metadata, tmp_path)
    assert "reasoning_cut: 7 conversations have thoughts beside an answer's text" in capsys.readouterr().out
    assert metadata["train"] == plain["train"]


KILLED = """
import os, signal, sys
from pathlib import Path
from callama.data import build
build._distribute = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
build.build([Path(sys.argv[1])], Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_a_build_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path, tokenizer: Path) -> None:
    source = tiny.write_conversations(tmp_path / "in.jsonl", map(tiny.conversation, range(20)))
    place = tmp_path / "place" / "built"
    killed = subprocess.run([sys.executable, "-c", KILLED, source, tokenizer, place], check=False)
    (left,) = place.parent.iterdir()
    assert killed.returncode == -signal.SIGKILL and (left / "spool.arrow").is_file()
    dead = (left / "spool.owner").read_text().split()[0]
    owners = {
        ".built.1-0000000a.tmp": f"{os.getpid()} {platform.node()}",
        ".built.1-0000000b.tmp": f"{dead} another-machine",
        ".built.1-0000000c.tmp": "no number",
        ".other.1-0000000d.tmp": f"{dead} {platform.node()}",
        ".built.1-0000000e.tmp": None,
    }
    for name, owner in owners.items():
        (place.parent / name).mkdir()
        if owner is not None:
            (place.parent / name / "spool.owner").write_text(owner)
    build([source], tokenizer, place)
    assert {path.name for path in place.parent.iterdir()} == {"built", *owners}
    assert not (place / "spool.owner").exists()
