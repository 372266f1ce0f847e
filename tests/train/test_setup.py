"""What does not fit together is said in the first second, before anything is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from callama.common.errors import CallamaError, UsageError
from callama.common.files import MANIFEST
from callama.data.build import build
from callama.model.params import ModelParams
from callama.train.estimate import estimate
from callama.train.loop import train
from callama.train.setup import prepare
from callama.weights.names import ffn_keys
from tests import tiny
from tests.train.conftest import Configure

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path) -> Iterator[None]:
    yield
    assert not (tmp_path / "run").exists()


def empty_data(folder: Path, world: Path) -> Path:
    folder.mkdir()
    shutil.copyfile(world / "built" / "metadata.json", folder / "metadata.json")
    tiny.write_examples(folder / "empty.arrow", [])
    return folder / "empty.arrow"


def test_a_tokenizer_of_another_model(configure: Configure, tmp_path: Path) -> None:
    other = tiny.write_tokenizer(tmp_path / "tokenizer.json", vocab_size=300).file
    with pytest.raises(CallamaError, match=r"has 300 tokens, the model in .* 400: this tokenizer does not belong"):
        train(configure(tokenizer_file=str(other)))


def test_data_built_with_another_tokenizer(world: Path, configure: Configure, tmp_path: Path) -> None:
    spec = json.loads((world / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec, indent=3))
    build([world / "conversations.jsonl"], tmp_path / "tokenizer.json", tmp_path / "built", val_ratio=0)
    with pytest.raises(CallamaError, match=r"was built with another tokenizer .*build it again with this one"):
        train(configure(train__dataset_sources=[str(tmp_path / "built" / "train.arrow")]))


def test_validation_data_built_with_another_tokenizer(world: Path, configure: Configure, tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path / "tokenizer.json", vocab_size=300)
    build([world / "conversations.jsonl"], tmp_path / "tokenizer.json", tmp_path / "built", val_ratio=0.25)
    with pytest.raises(CallamaError, match=r"validation\.arrow was built with another tokenizer"):
        train(configure(validation={"dataset_sources": [str(tmp_path / "built" / "validation.arrow")]}))


def test_data_of_another_contract(world: Path, configure: Configure, tmp_path: Path) -> None:
    shutil.copytree(world / "built", tmp_path / "built")
    metadata = json.loads((world / "built" / "metadata.json").read_text())
    (tmp_path / "built" / "metadata.json").write_text(json.dumps({**metadata, "contract_version": 0}))
    with pytest.raises(CallamaError, match="has contract version 0, this is"):
        train(configure(train__dataset_sources=[str(tmp_path / "built" / "train.arrow")]))


def in_another_dialect(folder: Path, world: Path) -> Path:
    shutil.copytree(world / "built", folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "dialect": "another"}))
    return folder


def test_validation_data_in_another_dialect(world: Path, configure: Configure, tmp_path: Path) -> None:
    other = in_another_dialect(tmp_path / "built", world)
    with pytest.raises(
        CallamaError, match=r"validation\.arrow is in dialect 'another' and .*train\.arrow in 'tool_uses'"
    ):
        train(configure(validation={"dataset_sources": [str(other / "validation.arrow")]}))


def test_data_in_another_dialect_than_the_model_was_fine_tuned_in(
    world: Path, configure: Configure, tmp_path: Path
) -> None:
    other = in_another_dialect(tmp_path / "built", world)
    shutil.copytree(world / "model", tmp_path / "tuned")
    manifest = json.loads((tmp_path / "tuned" / MANIFEST).read_text())
    (tmp_path / "tuned" / MANIFEST).write_text(json.dumps({**manifest, "dialect": "tool_uses"}))
    with pytest.raises(
        CallamaError, match=r"is in dialect 'another' and the model in .*tuned was trained in 'tool_uses'"
    ):
        train(configure(
            model_ckpt_file=str(tmp_path / "tuned"), train__dataset_sources=[str(other / "train.arrow")]
        ))  # fmt: skip


def test_a_conversation_longer_than_the_sequence(configure: Configure) -> None:
    with pytest.raises(
        CallamaError, match=r"10 of 30 conversations are longer .* = 120 tokens \(the longest has 143; .*1024"
    ) as e:
        train(configure(model_config__max_seq_len=120))
    assert "build with --max-tokens 120" in str(e.value)


def test_a_sequence_longer_than_the_context(configure: Configure) -> None:
    with pytest.raises(CallamaError, match="max_seq_len is 1025, longer than the model's context of 1024 tokens"):
        train(configure(model_config__max_seq_len=1025))


def test_a_shape_that_is_not_the_models(configure: Configure) -> None:
    with pytest.raises(CallamaError, match=r"model_config\.n_layers is 3, but .*params\.json says 2"):
        train(configure(model_config__n_layers=3))


@pytest.mark.parametrize("spelling", [{"multiple_of": 96}, {"multiple_of": 48}, {"ffn_dim_multiplier": 1.1}])
def test_a_width_in_other_words_is_the_models(configure: Configure, spelling: dict[str, float]) -> None:
    # A model that came from Hugging Face has other keys for its width than Meta's own and the shipped configurations.
    settings = {f"model_config__{key}": value for key, value in spelling.items()}
    with pytest.raises(UsageError, match="max_seq_len is 1025, longer than"):  # which is looked at behind the shape
        prepare(configure(**settings, model_config__max_seq_len=1025))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "multiple_of",
            64,
            r"multiple_of is 64, which makes ffn_dim 128, but .*says 96; leave the key out",
        ),
        ("n_kv_heads", 4, r"n_kv_heads is 4, which makes kv_heads 4, but .*params\.json says 2"),
        ("multiple_of", 0, "model_config: multiple_of must be a whole number above zero, found 0"),
    ],
)
def test_a_width_that_is_not_the_models(configure: Configure, key: str, value: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(configure(**{f"model_config__{key}": value}))


@pytest.mark.parametrize("file", sorted(p.name for p in (REPO / "configs").glob("*.json")))
def test_shipped_configurations_take_models_from_hugging_face(file: str) -> None:
    shape = json.loads((REPO / "configs" / file).read_text())["model_config"]
    if "dim" in shape:
        meta = ModelParams.from_meta(shape)
        widths = {key: value for key, value in shape.items() if key not in ("multiple_of", "ffn_dim_multiplier")}
        converted = ModelParams.from_meta(widths | ffn_keys(meta.dim, meta.ffn_dim))
        assert converted != meta and converted.arithmetic() == meta.arithmetic()


def test_an_empty_data_set(world: Path, configure: Configure, tmp_path: Path) -> None:
    path = empty_data(tmp_path / "empty", world)
    with pytest.raises(CallamaError, match=r"empty\.arrow is empty; build it again"):
        train(configure(train__dataset_sources=[str(path)]))


def test_empty_validation_data(world: Path, configure: Configure, tmp_path: Path) -> None:
    path = empty_data(tmp_path / "empty", world)
    with pytest.raises(CallamaError, match=r"empty\.arrow is empty; .*val-ratio.*validation\.enabled=false"):
        train(configure(validation={"dataset_sources": [str(path)]}))


def test_trap_15_a_pickled_data_set(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "train.pk").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UsageError, match=r"train\.pk: pickled data sets are not opened.*name train\.arrow"):
        train(configure(train__dataset_sources=[str(tmp_path / "train.pk")]))


def test_missing_files(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.arrow does not exist; build it"):
        train(configure(train__dataset_sources=[str(tmp_path / "none.arrow")]))
    with pytest.raises(UsageError, match="none is not a folder; expected a native checkpoint"):
        train(configure(model_ckpt_file=str(tmp_path / "none" / "consolidated.pth")))
    with pytest.raises(UsageError, match=r"tokenizer\.model does not exist"):
        train(configure(tokenizer_file=str(tmp_path / "tokenizer.model")))


def test_several_files_in_one_source(configure: Configure) -> None:
    with pytest.raises(UsageError, match=r"train\.dataset_sources names 2 files; name one"):
        train(configure(train__dataset_sources=["a.arrow", "b.arrow"]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(configure: Configure) -> None:
    with pytest.raises(UsageError, match="torch finds no CUDA device"):
        train(configure(device="cuda"))


def test_bf16_on_a_gpu_that_only_imitates_it(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    config = configure(device="auto", dtype="bf16")
    for refused in (prepare, estimate):
        with pytest.raises(UsageError, match="dtype=bf16 is set and this GPU only imitates bf16; leave it out"):
            refused(config)


@pytest.mark.parametrize(
    ("told", "device", "zero", "place"),
    [("cpu", "auto", {"stage": 2}, "cpu"), (None, "auto", {"stage": 2}, "cuda"), ("cpu", "auto", None, "cuda")],
)
def test_under_zero_the_device_is_what_deepspeed_was_told(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, told: str | None, device: str, zero: Any, place: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    if told is not None:
        monkeypatch.setenv("DS_ACCELERATOR", told)
    seen: list[torch.device] = []
    monkeypatch.setattr("callama.train.setup.require_dtype", lambda name, found: seen.append(found))
    monkeypatch.setattr("callama.train.setup._one_dataset", Mock(side_effect=CallamaError("enough")))
    with pytest.raises(CallamaError, match="enough"):
        prepare(configure(device=device, zero_optimization=zero))
    assert [found.type for found in seen] == [place]


def test_a_tokenizer_of_another_model_with_as_many_tokens_is_refused(
    configure: Configure, world: Path, tmp_path: Path
) -> None:
    other = tmp_path / "tokenizer.json"
    other.write_text((world / "model" / "tokenizer.json").read_text() + "\n")
    with pytest.raises(CallamaError, match=r"is not the tokenizer of the checkpoint: .* has other content"):
        prepare(configure(tokenizer_file=str(other)))


def test_a_shape_that_was_edited_is_refused(world: Path, configure: Configure, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "own")
    params = tmp_path / "own" / "model" / "params.json"
    params.write_text(json.dumps(json.loads(params.read_text()) | {"norm_eps": 1e-2}))
    with pytest.raises(CallamaError, match=r"params\.json was changed or damaged after callama wrote it"):
        prepare(configure(root=tmp_path / "own"))


def test_a_rank_wider_than_the_model_is_refused(configure: Configure) -> None:
    with pytest.raises(UsageError, match=r"lora_rank is 100000000000000000000, above the model's width"):
        prepare(configure(lora_config__lora_rank=10**20))


def test_data_without_their_metadata_are_told_so(world: Path, configure: Configure, tmp_path: Path) -> None:
    shutil.copy(world / "built" / "train.arrow", tmp_path / "alone.arrow")
    with pytest.raises(CallamaError, match=r"metadata\.json is missing beside .*alone\.arrow; copy it too"):
        train(configure(train__dataset_sources=[str(tmp_path / "alone.arrow")]))
