"""Where sources and destinations lie, what they are called, and what else lies there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import gguf
import pytest

from callama import __version__
from callama.common.errors import CallamaError
from callama.common.files import read_manifest
from callama.common.verify import verify_folder
from callama.weights.convert import TARGETS, convert, open_source
from callama.weights.tokenizers import loaded_tokenizer
from tests.weights.formats import snapshot

MODELS = [target for target in TARGETS if target != "peft"]


@pytest.mark.parametrize("to", MODELS)
def test_a_source_whose_name_is_no_text_is_converted(whole: Path, tmp_path: Path, to: str) -> None:
    source = tmp_path / os.fsdecode(b"a\xff")
    shutil.copytree(whole / "native", source)
    out = tmp_path / ("out.gguf" if to == "gguf" else "out")
    convert(source, out, to)  # type: ignore[arg-type]
    if to == "gguf":
        assert gguf.GGUFReader(out).fields["callama.source"].contents() == "a\ufffd"
    else:
        assert read_manifest(out)["source"] == "a\ufffd" and verify_folder(out).files


def test_a_file_whose_name_is_no_text_is_converted(whole: Path, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"a\xff.gguf")
    shutil.copy(whole / "model.gguf", source)
    convert(source, tmp_path / "out", "native")
    assert read_manifest(tmp_path / "out")["source"] == "a\ufffd.gguf"


def test_here_is_called_by_its_folders_name(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole / "native")
    convert(Path(), tmp_path / "out.gguf", "gguf")
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    found = {key: fields[key].contents() for key in ("general.name", "callama.source", "callama.version")}
    assert found == {"general.name": "native", "callama.source": "native", "callama.version": __version__}


@pytest.mark.parametrize(("name", "text"), [("latest", "global_step5"), ("adapter_config.json", "{}")])
def test_what_a_trainer_left_beside_a_model_does_not_make_it_another_thing(
    whole: Path, tmp_path: Path, name: str, text: str
) -> None:
    source = tmp_path / "hf"
    shutil.copytree(whole / "hf", source)
    (source / name).write_text(text)
    before = snapshot(source)
    convert(source, tmp_path / "out", "native")
    assert snapshot(source) == before and verify_folder(tmp_path / "out").files


def test_a_tokenizer_is_spoken_of_by_its_own_place(whole: Path, tmp_path: Path) -> None:
    source = tmp_path / "hf"
    shutil.copytree(whole / "hf", source, ignore=shutil.ignore_patterns("MANIFEST.json"))
    text = (source / "tokenizer.json").read_text().replace("<|im_start|>", "<|other|>")
    (source / "tokenizer.json").write_text(text)
    with pytest.raises(CallamaError, match=rf"^{source}/tokenizer\.json "):
        convert(source, tmp_path / "out", "hf")


def test_a_tokenizer_of_a_gguf_file_is_spoken_of_by_that_file(whole: Path, tmp_path: Path) -> None:
    found = loaded_tokenizer(open_source(whole / "model.gguf"))
    assert found is not None and found.file == whole / "model.gguf"


@pytest.mark.parametrize("to", MODELS)
def test_tokens_outside_of_angle_brackets_need_no_guard_where_nothing_is_marked(
    whole: Path, tmp_path: Path, to: str
) -> None:
    source = tmp_path / "native"
    shutil.copytree(whole / "native", source, ignore=shutil.ignore_patterns("MANIFEST.json"))
    spec = json.loads((source / "tokenizer.json").read_text())
    name = next(t["content"] for t in spec["added_tokens"] if not t["content"].startswith("<|im_"))
    (source / "tokenizer.json").write_text((source / "tokenizer.json").read_text().replace(name, "[PAD]"))
    out = tmp_path / ("out.gguf" if to == "gguf" else "out")
    if to == "hf":
        with pytest.raises(CallamaError, match=r"do not begin with '<' \(\[PAD\]\).*rename them"):
            convert(source, out, "hf")
    else:
        convert(source, out, to)  # type: ignore[arg-type]
