"""What callama wrote is held against its checksums when it is read again, and what is no number goes nowhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from callama.common.errors import CallamaError, UsageError
from callama.common.files import checksums_of, sha256_file
from callama.weights import lazy
from callama.weights.adapter import read_adapter
from callama.weights.convert import convert, open_source
from callama.weights.gguf_in import NO_SEAL, find_seal, verify_gguf
from callama.weights.merge import merge_to_folder
from callama.weights.meta import write_meta
from callama.weights.native import open_native, read_native
from callama.weights.pth import open_pth, save_pth
from callama.weights.seal import SourceFile
from tests.weights.conftest import PARAMS
from tests.weights.formats import disown, random_state, same, snapshot

# Every file that a conversion reads from what callama wrote, but archives of torch's: their tensors have a checksum
# each (test_bad_input.py), and the list of them one.
READ = (
    "native/params.json", "native/tokenizer.json", "meta/params.json", "meta/tokenizer.json",
    "hf/model-00002-of-00003.safetensors", "hf/model.safetensors.index.json", "hf/config.json",
    "hf/tokenizer.json", "peft/adapter_model.safetensors",
    "peft/adapter_config.json", "model.gguf",
)  # fmt: skip


@pytest.fixture
def sources(whole: Path, tmp_path: Path) -> Path:
    """A copy of ``whole`` that may be damaged."""
    shutil.copytree(whole, tmp_path / "sources")
    return tmp_path / "sources"


def again(root: Path, name: str) -> None:
    kind = name.split("/")[0]
    to = {"peft": "peft", "native": "hf"}.get(kind, "native")
    convert(root / kind, root / "out", to)  # type: ignore[arg-type]


def without_change_of_meaning(path: Path) -> None:
    """The last bit of some number's mantissa, or white space: nothing that a format by itself could notice."""
    content = bytearray(path.read_bytes())
    if path.suffix == ".json":
        content += b" "
    else:
        content[len(content) // 2 // 64 * 64] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", READ)
def test_a_source_that_is_not_what_callama_wrote_is_refused(sources: Path, name: str) -> None:
    without_change_of_meaning(sources / name)
    before = snapshot(sources)
    with pytest.raises(CallamaError, match=rf"{re.escape(name)} was changed or damaged after callama wrote it") as said:
        again(sources, name)
    assert snapshot(sources) == before and not any(p.suffix == ".tmp" for p in sources.iterdir())
    own = (
        "in its fields. Copy or make it again" if name == "model.gguf" else "take the file's entry out of MANIFEST.json"
    )
    assert own in str(said.value)
    if name != "model.gguf":
        disown(sources / name)
        again(sources, name)


@pytest.mark.parametrize("name", ["native/MANIFEST.json", "hf/generation_config.json", "hf/chat_template.jinja"])
def test_what_a_conversion_does_not_read_may_change(sources: Path, name: str) -> None:
    (sources / name).write_text((sources / name).read_text() + "\n")
    again(sources, name)


@pytest.mark.parametrize("kind", ["native", "hf"])
def test_a_damaged_source_is_neither_merged_nor_cut_into_shards(sources: Path, kind: str) -> None:
    without_change_of_meaning(sources / "native/consolidated.pth")
    with pytest.raises(CallamaError, match=r"consolidated\.pth is damaged: tensor .* does not have the checksum"):
        if kind == "native":
            merge_to_folder(sources / "native", sources / "peft", sources / "out", max_changed=1)
        else:
            write_meta(sources / "out", open_native(sources / "native"), 2)
    assert not (sources / "out").exists()


def test_blocks_in_any_order_and_size_are_the_same_file(tmp_path: Path) -> None:
    content = torch.randint(0, 256, (3 << 20,), dtype=torch.uint8).numpy().tobytes()
    (tmp_path / "file").write_bytes(content)
    right = checksums_of(tmp_path / "file").crc32
    orders: tuple[list[tuple[int, int]], ...] = (
        [], [(0, 10), (10, 10)], [(5, 10), (30, 1 << 20)], [(2 << 20, 100), (0, 100), (50, 100)], [(0, 3 << 20)],
    )  # fmt: skip
    for order in orders:
        file = SourceFile(tmp_path / "file", right)
        for at, count in order:
            assert file.read(at, count).tobytes() == content[at : at + count]
        file.check()
        other = SourceFile(tmp_path / "file", checksums_of(Path(__file__)).crc32)
        with pytest.raises(CallamaError, match="was changed or damaged"):
            other.check()


def test_a_whole_file_is_read_once(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Holding it against its checksum costs no second reading."""
    read, real = 0, SourceFile._bytes

    def counted(file: SourceFile, offset: int, count: int) -> object:
        nonlocal read
        read += count
        return real(file, offset, count)

    monkeypatch.setattr(SourceFile, "_bytes", counted)
    monkeypatch.setattr(lazy, "BLOCK_BYTES", 1 << 15)
    convert(whole / "hf", tmp_path / "out", "native")
    size = sum(p.stat().st_size for p in (whole / "hf").glob("*.safetensors"))
    assert size <= read <= 1.01 * size


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("kind", ["native/consolidated.pth", "bin/pytorch_model.bin", "st/model.safetensors"])
def test_what_is_no_number_is_refused_with_its_place(
    sources: Path, kind: str, dtype: torch.dtype, value: float
) -> None:
    path = sources / kind
    if kind.startswith("st/"):
        shutil.copytree(sources / "bin", path.parent, ignore=shutil.ignore_patterns("pytorch*"))
        state = torch.load(sources / "bin/pytorch_model.bin", weights_only=True)
    else:
        state = torch.load(path, weights_only=True)
    state = {name: tensor.to(dtype) for name, tensor in state.items()}
    broken = next(name for name in state if "w2" in name or "down_proj" in name)
    state[broken][3, 5:8] = value
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    (path.parent / "MANIFEST.json").unlink(missing_ok=True)
    before = snapshot(sources)
    expected = (
        rf"{re.escape(kind)}: {re.escape(broken)} holds 3 NaN or infinite numbers among [\d,]+, .*; copy the file"
    )
    with pytest.raises(CallamaError, match=expected):
        convert(path.parent, sources / "out", "meta")
    assert snapshot(sources) == before


def test_a_gguf_file_or_an_adapter_with_what_is_no_number_is_refused(sources: Path) -> None:
    found = next(t for t in gguf.GGUFReader(sources / "model.gguf", "r+").tensors if t.name == "output_norm.weight")
    found.data[1] = float("nan")
    content = (sources / "model.gguf").read_bytes().replace(b"callama.crc32", b"callama.other")
    (sources / "model.gguf").write_bytes(content)
    with pytest.raises(
        CallamaError, match=r"model\.gguf: output_norm\.weight holds 1 NaN or infinite numbers among 128"
    ):
        again(sources, "model.gguf")
    path = sources / "peft/adapter_model.safetensors"
    state = load_file(path)
    name = next(iter(state))
    state[name][0, 0] = float("inf")
    save_file(state, path)
    (sources / "peft/MANIFEST.json").unlink()
    for use in (again, lambda *_: read_adapter(path.parent, PARAMS)):
        with pytest.raises(CallamaError, match=rf"{re.escape(name)} holds 1 NaN or infinite"):
            use(sources, "peft/")


def test_the_largest_numbers_are_numbers(sources: Path, tmp_path: Path) -> None:
    state = random_state(PARAMS, tied=False)
    state["output.weight"][0] = torch.finfo(torch.bfloat16).max
    torch.save(state, sources / "native/consolidated.pth")
    (sources / "native/MANIFEST.json").unlink()
    convert(sources / "native", tmp_path / "out", "meta")
    assert same(open_source(tmp_path / "out").tensors, state)


def test_a_gguf_file_is_verified_by_the_checksum_inside_it(sources: Path, tmp_path: Path) -> None:
    path = sources / "model.gguf"
    assert verify_gguf(path) == path.stat().st_size
    content = path.read_bytes()
    at = find_seal(content)
    assert at and content[at : at + 8] != NO_SEAL
    for place in (100, at, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        with pytest.raises(CallamaError, match=r"damaged\.gguf"):
            verify_gguf(tmp_path / "damaged.gguf")
    path.write_bytes(content.replace(b"callama.crc32", b"another.crc32"))
    with pytest.raises(UsageError, match="has no checksum inside; only what callama wrote can be verified"):
        verify_gguf(path)


def rewritten(path: Path, out: Path, *options: str) -> Path:
    """What the ``gguf`` package's own tool makes of a file, all its fields included."""
    tool = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force", *options, str(path), str(out)]
    subprocess.run(tool, check=True, capture_output=True)
    return out


def test_a_file_that_another_tool_wrote_from_ours_is_its_own(sources: Path, tmp_path: Path) -> None:
    """The seal is copied with the other fields; it is neither held against what it was not made for, nor does it make
    the file callama's to replace."""
    path = rewritten(sources / "model.gguf", sources / "edited.gguf", "--general-name", "a longer name than before")
    assert find_seal(path.read_bytes())
    convert(path, tmp_path / "out", "native")
    assert same(read_native(tmp_path / "out").state, read_native(sources / "native").state)
    before = sha256_file(path)
    with pytest.raises(UsageError, match="has no checksum inside; only what callama wrote can be verified"):
        verify_gguf(path)
    with pytest.raises(UsageError, match=r"edited\.gguf is there and is no GGUF file of callama's"):
        convert(sources / "native", path, "gguf")
    assert sha256_file(path) == before
    convert(sources / "native", sources / "model.gguf", "gguf")


def test_an_edit_that_left_the_size_as_it_was_is_not_replaced(sources: Path, tmp_path: Path) -> None:
    """A head is filled up to 32 bytes, so that a name may grow without the file."""
    path = sources / "model.gguf"
    name = gguf.GGUFReader(path).fields["general.name"].contents()
    edited = rewritten(path, tmp_path / "edited.gguf", "--general-name", name[::-1])
    before = sha256_file(edited)
    assert edited.stat().st_size == path.stat().st_size and before != sha256_file(path)
    with pytest.raises(UsageError, match=r"edited\.gguf is there and is no GGUF file of callama's"):
        convert(sources / "native", edited, "gguf")
    assert sha256_file(edited) == before


def test_a_damaged_scaling_of_rope_is_told_as_damage(sources: Path, tmp_path: Path) -> None:
    path = sources / "model.gguf"
    content = bytearray(path.read_bytes())
    divisors = next(t for t in gguf.GGUFReader(path).tensors if t.name == "rope_freqs.weight")
    content[int(divisors.data_offset) + 2] ^= 64
    path.write_bytes(content)
    with pytest.raises(CallamaError, match=r"model\.gguf was changed or damaged after callama wrote it"):
        convert(path, tmp_path / "out", "native")


def test_a_file_changed_on_purpose_without_changing_its_size_has_a_way_on(sources: Path, tmp_path: Path) -> None:
    path = sources / "model.gguf"
    path.write_bytes(path.read_bytes().replace(b"converted by callama", b"converted by somebod", 1))
    option = "--remove-metadata callama.crc32"
    with pytest.raises(CallamaError, match=f"if the change is yours, .* with gguf-new-metadata {option}"):
        convert(path, tmp_path / "out", "native")
    convert(rewritten(path, tmp_path / "new.gguf", *option.split()), tmp_path / "out", "native")


def test_a_manifest_with_half_a_character_goes_into_gguf(sources: Path, tmp_path: Path) -> None:
    manifest = sources / "native/MANIFEST.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "dialect": "\ud800"}))
    convert(sources / "native", tmp_path / "a.gguf", "gguf")
    assert gguf.GGUFReader(tmp_path / "a.gguf").fields["callama.dialect"].contents() == "\\ud800"


@pytest.mark.parametrize("share", [0, 2, 7, 40, 0.01, 0.02, 0.5, 0.999])
def test_a_cut_gguf_file_is_one_clear_message(sources: Path, share: float) -> None:
    """In its magic, its counts, its fields, its list of tensors, its numbers."""
    content = (sources / "model.gguf").read_bytes()
    (sources / "model.gguf").write_bytes(content[: int(share if share >= 1 else share * len(content))])
    with pytest.raises(
        CallamaError, match=r"model\.gguf is cut short or damaged: .* bytes.*; copy or download it again"
    ):
        again(sources, "model.gguf")


def merges(change: Callable[[list[object]], object]) -> Callable[[dict[str, object]], object]:
    return lambda model: change(model["merges"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (merges(lambda m: m.__setitem__(3, ["a"])), r"merge 4 is \['a'\], expected two tokens"),
        (merges(lambda m: m.__setitem__(3, [None, "a"])), r"merge 4 is \[None, 'a'\], expected two tokens"),
        (merges(lambda m: m.__setitem__(3, 7)), "merge 4 is 7, expected two tokens"),
        (merges(lambda m: m.__setitem__(3, "zq qz")), "merge 4 is 'zq qz', but 'zq' is no token of its vocabulary"),
        (lambda model: model.pop("merges"), "it has no key 'merges'"),
    ],
)
@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_broken_merges_of_a_tokenizer_are_named(
    sources: Path, change: Callable[[dict[str, object]], object], message: str, to: str
) -> None:
    path = sources / "native/tokenizer.json"
    spec = json.loads(path.read_text())
    change(spec["model"])
    path.write_text(json.dumps(spec))
    expected = (
        rf"tokenizer\.json is not a tokenizer\.json of byte-level BPE: {message}; copy or download the file again"
    )
    with pytest.raises(CallamaError, match=expected):
        convert(sources / "native", sources / ("o.gguf" if to == "gguf" else "out"), to)  # type: ignore[arg-type]


def test_the_originals_folder_is_an_adapter_as_it_is(sources: Path, tmp_path: Path) -> None:
    for number, place in enumerate(("original", "original/lora.pt", "zero/out")):
        convert(sources / place, tmp_path / str(number), "peft")
        weights = [sha256_file(tmp_path / n / "adapter_model.safetensors") for n in ("0", str(number))]
        assert weights[0] == weights[1]
    merge_to_folder(sources / "native", sources / "original", tmp_path / "merged", max_changed=1)
    shutil.copy(sources / "original/lora.pt", sources / "original/older.pt")
    with pytest.raises(UsageError, match=r"original holds 2 state dicts; name one, such as .*original/lora\.pt"):
        convert(sources / "original", tmp_path / "out", "peft")


@pytest.mark.parametrize("name", ["native/consolidated.pth", "meta/consolidated.00.pth", "meta/consolidated.01.pth"])
def test_another_whole_archive_in_the_place_of_one_is_refused(sources: Path, name: str) -> None:
    """Of the same names, shapes, size and norms, each tensor with its right checksum."""
    path = sources / name
    state = {name: tensor.whole() for name, tensor in open_pth(path).items()}
    save_pth(path, {name: lazy.of_tensor(t.flip(0) if t.dim() == 2 else t) for name, t in state.items()})
    before = snapshot(sources)
    expected = rf"{re.escape(name)} was changed or damaged after callama wrote it: its list of tensors"
    with pytest.raises(CallamaError, match=expected):
        convert(path.parent, sources / "out", "hf")
    if name.startswith("native"):
        with pytest.raises(CallamaError, match=expected):
            merge_to_folder(path.parent, sources / "peft", sources / "out", max_changed=1)
        with pytest.raises(CallamaError, match=expected):
            read_native(path.parent)
    assert snapshot(sources) == before
    disown(path)
    convert(path.parent, sources / "out", "hf")
