"""Files are whole or absent: whatever fails while writing, the destination stays as it was."""

import errno
import json
import os
import shutil
import signal
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from callama.common import files
from callama.common.errors import CallamaError, UsageError
from callama.common.files import (
    MANIFEST,
    atomic_file,
    atomic_folder,
    name_of,
    read_json,
    read_manifest,
    require_file,
    require_replaceable,
    sha256_file,
    write_json,
)
from callama.common.verify import verify_folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write_folder(path: Path, text: str) -> None:
    with atomic_folder(path, {"step": text}) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text(text)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_appears_whole_and_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.json"
    for value in ({"a": "é\u2028"}, [1]):
        write_json(target, value)
        assert json.loads(target.read_text("utf-8")) == value
    assert [p.name for p in target.parent.iterdir()] == ["a.json"]
    assert target.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_a_failed_block_leaves_no_trace(tmp_path: Path, stop: type[BaseException]) -> None:
    write_json(tmp_path / "a.json", 1)
    write_folder(tmp_path / "run", "old")
    before = snapshot(tmp_path)
    with pytest.raises(stop), atomic_file(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise stop
    with pytest.raises(stop), atomic_folder(tmp_path / "run", {}) as folder:
        (folder / "half").write_text("half")
        raise stop
    with pytest.raises(CallamaError, match="cannot be written as JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "write", [lambda p: write_json(p / "a.json", 2), lambda p: write_folder(p / "run", "new")], ids=["file", "folder"]
)
def test_a_full_disk_is_said_and_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    write_json(tmp_path / "a.json", 1)
    write_folder(tmp_path / "run", "old")
    before = snapshot(tmp_path)
    for owner, name in ((os, "fsync"), (Path, "write_text")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full_disk)
            with pytest.raises(CallamaError, match=r"the disk is full while writing \S*/[\w.]+(/MANIFEST\.json)?; "):
                write(tmp_path)
        assert snapshot(tmp_path) == before


def test_a_full_disk_is_recognised_in_other_libraries_words(tmp_path: Path) -> None:
    with pytest.raises(CallamaError, match="disk is full"), atomic_file(tmp_path / "a"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with (
        pytest.raises(CallamaError, match="disk is full"),
        atomic_file(tmp_path / "a"),
        Path("/dev/full").open("w") as f,
    ):
        f.write("x")


def test_a_folder_gets_its_manifest_and_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "newer"):
        write_folder(tmp_path / "run", text)
        crc32 = f"{zlib.crc32(text.encode()):08x}"
        entry = {"sha256": sha256_file(tmp_path / "run/sub/a.txt"), "crc32": crc32, "bytes": len(text)}
        manifest = read_manifest(tmp_path / "run")
        assert manifest["step"] == text and manifest["files"] == {"sub/a.txt": entry}
        assert (tmp_path / "run/sub/a.txt").read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_without_exchange_a_failed_rename_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.sys, "platform", "other")
    write_folder(tmp_path / "run", "old")
    write_folder(tmp_path / "run", "new")
    before = snapshot(tmp_path)
    assert before["run/sub/a.txt"] == b"new"
    replace = Path.replace

    def fails_once(self: Path, target: Path) -> Path:
        if target.name == "run" and (self / MANIFEST).is_file() and read_manifest(self)["step"] == "newest":
            raise OSError(errno.EIO, "input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails_once)
    with pytest.raises(OSError, match="input/output error"):
        write_folder(tmp_path / "run", "newest")
    assert snapshot(tmp_path) == before


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    for text in ("old", "new"):
        write_folder(tmp_path / "run", text)
    assert (tmp_path / "run").is_symlink() and (tmp_path / "disk/run/sub/a.txt").read_text() == "new"


def test_what_callama_did_not_write_is_never_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_folder(run, "an empty folder is fine")
    (run / "sub" / ".DS_Store").touch()
    write_folder(run, "and so is what the Finder leaves")
    (run / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes.txt, which is not in its MANIFEST.json"):
        write_folder(run, "new")
    (run / MANIFEST).unlink()
    with pytest.raises(UsageError, match=r"holds files without a MANIFEST.json"):
        write_folder(run, "new")
    assert (run / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("theirs", [{"mine": 1}, {"files": {"a.bin": 1}}, {"files": {"a.bin": {"sha256": "0"}}}])
def test_a_manifest_of_another_tool_does_not_make_a_folder_ours(tmp_path: Path, theirs: dict[str, object]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / MANIFEST).write_text(json.dumps(theirs))
    (run / "a.bin").write_text("mine")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"run holds a MANIFEST.json that callama did not write"):
            write_folder(run, "new")
        (run / "a.bin").unlink(missing_ok=True)
    assert json.loads((run / MANIFEST).read_text()) == theirs


def test_a_folder_with_only_a_link_in_it_is_not_empty(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (run / "data").symlink_to(elsewhere)
    with pytest.raises(UsageError, match=r"holds files without a MANIFEST.json"):
        write_folder(run, "new")
    assert (run / "data").is_symlink()


def test_a_name_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    write_folder(tmp_path / ("é" * 127), "folder")
    write_json(tmp_path / ("a" * 255), 1)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("writer", [atomic_file, lambda path: atomic_folder(path, {})])
def test_folders_that_were_made_for_what_failed_go_again(
    tmp_path: Path, writer: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(RuntimeError), writer(tmp_path / "old" / "deep" / "a" / "b"):
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]
    with pytest.raises(RuntimeError), writer(tmp_path / "old" / "deep" / "a" / "b"):
        (tmp_path / "old" / "deep" / "mine").touch()
        raise RuntimeError
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "mine", "old"]


def test_a_signal_while_the_old_folder_goes_leaves_the_new_one_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_folder(tmp_path / "out", "old")
    remove = shutil.rmtree

    def interrupted(path: Path, **options: bool) -> None:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # commands that end leave another one behind
    try:
        with pytest.raises(KeyboardInterrupt):
            write_folder(tmp_path / "out", "new")
    finally:
        signal.signal(signal.SIGINT, before)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert json.loads((tmp_path / "out" / "MANIFEST.json").read_text())["step"] == "new"


def test_the_folder_that_one_is_in_is_not_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "inside")
    for place in (Path(), Path(".."), tmp_path / "here"):
        with pytest.raises(UsageError, match="is where you are, and would be replaced under you; name a new folder"):
            require_replaceable(place)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").is_file(), reason="mounts are listed on Linux only")
def test_a_mount_point_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is where a disk is mounted.*name a folder inside"):
        require_replaceable(Path("/proc"))
    place, read = tmp_path / "a b", Path.read_bytes
    place.mkdir()
    line = b"1 2 8:1 / " + os.fsencode(place).replace(b" ", b"\\040") + b" rw - ext4 /dev/sda rw\n"
    monkeypatch.setattr(Path, "read_bytes", lambda p: line if p.name == "mountinfo" else read(p))
    with pytest.raises(UsageError, match="is where a disk is mounted"):
        require_replaceable(place)


def test_a_file_without_permission_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pth").touch(0)
    if os.geteuid() == 0:  # who may read everything

        def denied(path: Path, *_: object) -> None:
            raise PermissionError(errno.EACCES, "denied", str(path))

        monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(CallamaError, match=r"no permission to read .*a\.pth; expected weights"):
        require_file(tmp_path / "a.pth", "weights")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_manifest_with_what_json_cannot_say_is_refused_by_its_own_name(tmp_path: Path, number: str) -> None:
    (tmp_path / MANIFEST).write_text(f'{{"merge_error": {{"max": {number}}}}}')
    with pytest.raises(CallamaError, match=rf"{MANIFEST} holds NaN or infinity"):
        read_manifest(tmp_path)


def test_names_are_text_whatever_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "ü").mkdir()
    monkeypatch.chdir(folder)
    assert name_of(Path()) == name_of(Path("../ü")) == "ü" and name_of(Path("..")) == tmp_path.name
    odd = Path(os.fsdecode(b"a\xff"))
    assert name_of(odd) == "a\ufffd"
    write_json(tmp_path / "a.json", str(odd))
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == str(odd)


def test_a_manifest_that_names_no_files_verifies_nothing(tmp_path: Path) -> None:
    for named in ({}, [], None):
        (tmp_path / MANIFEST).write_text(json.dumps({"files": named}))
        with pytest.raises(CallamaError, match="has no list of files"):
            verify_folder(tmp_path)


def folder_writer(path: Path) -> AbstractContextManager[Path]:
    return atomic_folder(path, {})


@pytest.mark.parametrize(
    ("writer", "place"),
    [
        (atomic_file, ""),
        (atomic_file, "file/below"),
        (atomic_file, "/dev/null"),
        (folder_writer, "file"),
        (folder_writer, "file/below"),
        (folder_writer, "/dev/null"),
    ],
)
def test_impossible_places_are_wrong_use(
    tmp_path: Path, writer: Callable[[Path], AbstractContextManager[Path]], place: str
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError), writer(tmp_path / place):
        pass
    assert Path("/dev/null").is_char_device() and (tmp_path / "file").read_text() == "x"


def test_errors_about_other_places_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_file(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/input")
    with pytest.raises(CallamaError, match="no permission to write"), atomic_file(tmp_path / "a") as temporary:
        raise PermissionError(errno.EACCES, "denied", str(temporary))


def test_read_json_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.json does not exist; expected settings"):
        read_json(tmp_path / "gone.json", "settings")
    with pytest.raises(UsageError, match="is a folder; expected settings"):
        read_json(tmp_path, "settings")
    for content in (b'{\n"a": }', b"\xff", b"[" * 100_000, b"9" * 5000):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(CallamaError, match=r"a.json is not JSON \(.*expected settings"):
            read_json(tmp_path / "a.json", "settings")
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(CallamaError, match="not a JSON object"):
        read_manifest(tmp_path)
