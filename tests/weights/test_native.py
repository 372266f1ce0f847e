"""The native checkpoint: what is written is read back bit for bit, and nothing else is accepted."""

import errno
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from callama.common import files
from callama.common.errors import CallamaError, UsageError
from callama.model.params import ModelParams
from callama.weights import native
from callama.weights.native import build_model, load_tensors, open_native, read_native, write_native
from tests.model.tiny import FAMILIES, LLAMA_3, LLAMA_3_1, ROUNDED, logits, tiny, tokens
from tests.weights.formats import disown

META_KEYS = {
    "dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of", "ffn_dim_multiplier", "norm_eps",
    "rope_theta", "use_scaled_rope",
}  # fmt: skip


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write(folder: Path, params: ModelParams = ROUNDED, *, tied: bool = False, **facts: Any) -> dict[str, Tensor]:
    state = dict(tiny(params, tied=tied).state_dict())
    write_native(folder, params, state, None, facts)
    return state


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_reads_back_bit_for_bit(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    params, tied = FAMILIES[family]
    state = {name: tensor.to(dtype) for name, tensor in tiny(params, tied=tied).state_dict().items()}
    (tmp_path / "tokenizer.model").write_bytes(b"any bytes")
    write_native(tmp_path / "out", params, state, tmp_path / "tokenizer.model", {"source": "test"})
    found = read_native(tmp_path / "out")
    assert same(found.state, state) and found.params == params and found.tied == tied
    names = {"params.json", "consolidated.pth", "tokenizer.model", "MANIFEST.json"}
    assert snapshot(tmp_path / "out").keys() == names
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == b"any bytes"


class ElsewhereTensor(Tensor):
    """Refuses what a tensor on a GPU refuses; what is computed from it stays there until ``cpu``."""

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        return self.as_subclass(Tensor).clone()


@pytest.mark.parametrize("device", ["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_weights_on_a_gpu_are_written_as_they_are(tmp_path: Path, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = tiny(LLAMA_3)
    state = {name: p.detach() for name, p in model.state_dict().items()}
    there = {n: t.as_subclass(ElsewhereTensor) if device == "stand-in" else t.to(device) for n, t in state.items()}
    write_native(tmp_path / "out", model.params, there, None, {})
    found = read_native(tmp_path / "out").state
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("family", FAMILIES)
def test_trap_24_params_json_holds_metas_keys_only(tmp_path: Path, family: str) -> None:
    params, tied = FAMILIES[family]
    write(tmp_path / "out", params, tied=tied)
    written = json.loads((tmp_path / "out" / "params.json").read_text())
    assert written.keys() <= META_KEYS
    # Meta's first Llama 3 loader does not know the key at all.
    assert ("use_scaled_rope" in written) == params.use_scaled_rope


def test_trap_26_the_rope_factor_and_the_context_survive_through_the_manifest(tmp_path: Path) -> None:
    params = replace(ROUNDED, use_scaled_rope=True, rope_scale_factor=32.0, max_seq_len=777)
    write(tmp_path / "out", params)
    assert read_native(tmp_path / "out").params == params
    (tmp_path / "out" / "MANIFEST.json").unlink()  # as Meta ships it
    assert read_native(tmp_path / "out").params == replace(params, rope_scale_factor=8.0, max_seq_len=131_072)


def test_trap_26_what_stands_beside_the_weights_counts_where_params_json_lies_elsewhere(tmp_path: Path) -> None:
    params = replace(ROUNDED, use_scaled_rope=True, rope_scale_factor=16.0, max_seq_len=777)
    write(tmp_path / "out", params)
    (tmp_path / "params.json").write_bytes((tmp_path / "out" / "params.json").read_bytes())
    weights = tmp_path / "out" / "consolidated.pth"
    assert open_native(weights.parent, weights, tmp_path / "params.json").params == params


def test_a_manifest_beside_the_weights_that_says_nothing_of_them_hides_no_other(tmp_path: Path) -> None:
    params = replace(ROUNDED, use_scaled_rope=True, rope_scale_factor=16.0, max_seq_len=777)
    write(tmp_path / "out", params)
    (tmp_path / "weights").mkdir()
    weights = (tmp_path / "out" / "consolidated.pth").rename(tmp_path / "weights" / "consolidated.pth")
    (tmp_path / "weights" / "MANIFEST.json").write_text('{"callama": "0", "kind": "dataset", "files": {}}')
    assert open_native(tmp_path / "out", weights).params == params


@pytest.mark.parametrize("scaled", [True, False])
def test_a_params_json_that_contradicts_the_manifest_beside_the_weights_is_refused(
    tmp_path: Path, scaled: bool
) -> None:
    write(tmp_path / "out", replace(ROUNDED, use_scaled_rope=scaled))
    raw = json.loads((tmp_path / "out" / "params.json").read_text())
    (tmp_path / "params.json").write_text(json.dumps({**raw, "use_scaled_rope": not scaled}))
    weights = tmp_path / "out" / "consolidated.pth"
    said = "does not scale RoPE, .*it is scaled" if scaled else "scales RoPE, .*it is not"
    with pytest.raises(CallamaError, match=said + ": name the params.json of these weights"):
        open_native(weights.parent, weights, tmp_path / "params.json")


def test_a_built_model_computes_what_was_saved_and_never_writes_to_the_file(tmp_path: Path) -> None:
    model, ids = tiny(LLAMA_3_1), tokens(12)
    write_native(tmp_path / "out", LLAMA_3_1, model.state_dict(), None, {})
    before = snapshot(tmp_path / "out")
    checkpoint = read_native(tmp_path / "out")
    built = build_model(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(logits(built, ids), logits(model, ids))
        for parameter in built.parameters():
            parameter.zero_()
    assert snapshot(tmp_path / "out") == before and same(checkpoint.state, model.state_dict())
    half = build_model(read_native(tmp_path / "out"), dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_metas_old_constant_and_weights_elsewhere_are_read(tmp_path: Path) -> None:
    state = write(tmp_path / "out")
    torch.save({**state, "rope.freqs": torch.ones(4)}, tmp_path / "consolidated.00.pth")
    (tmp_path / "out" / "consolidated.pth").unlink()
    assert same(read_native(tmp_path / "out", tmp_path / "consolidated.00.pth").state, state)


class Touch:
    """Unpickling this creates a file: the simplest code that a checkpoint can run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_trap_28_code_inside_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    write(tmp_path / "out")
    ran, weights = tmp_path / "it ran", tmp_path / "out" / "consolidated.pth"
    disown(weights)
    torch.save({"a": torch.ones(1), "code": Touch(ran)}, weights)
    with pytest.raises(CallamaError, match=r"consolidated\.pth cannot be read as a checkpoint of plain tensors"):
        read_native(tmp_path / "out")
    assert not ran.exists()
    torch.load(weights, weights_only=False)
    assert ran.exists(), "the file was not harmful; this test proved nothing"


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "does not exist; expected a state dict written by torch.save"),
        (cut(0), "is not in torch's zip format"),
        (cut(5000), "is not in torch's zip format: it is cut short"),
        (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "is not in torch's zip format"),
        (lambda p: torch.save({}, p, _use_new_zipfile_serialization=False), "saved by torch before 1.6"),
        (lambda p: p.write_bytes(p.read_bytes().replace(b"PK\x03\x04", b"PK\x03\x05", 2)), "cannot be read"),
        (lambda p: torch.save([torch.ones(1)], p), "must hold a state dict: names and tensors, nothing else"),
        (lambda p: torch.save({"a": "text"}, p), "must hold a state dict"),
        (lambda p: torch.save(torch.ones(1), p), "must hold a state dict"),
    ],
)
def test_a_file_that_is_no_state_dict_is_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    write(tmp_path / "out")
    weights = tmp_path / "out" / "consolidated.pth"
    disown(weights)
    damage(weights)
    before = snapshot(tmp_path)
    with pytest.raises(CallamaError, match=message) as caught:
        read_native(tmp_path / "out")
    assert str(weights) in str(caught.value) and snapshot(tmp_path) == before
    assert isinstance(caught.value, UsageError) == ("does not exist" in message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.0.attention.wk.weight": None}, r"lacks tensor layers\.0\.attention\.wk\.weight"),
        ({"layers.7.attention.wq.weight": torch.ones(1)}, r"unexpected tensor layers\.7\.attention\.wq\.weight"),
        ({"lm_head.weight": torch.ones(1)}, r"unexpected tensor lm_head\.weight"),
        (
            {"layers.0.attention.wk.weight": torch.ones(32, 32)},
            r"layers\.0\.attention\.wk\.weight has shape \(32, 32\), but .*params\.json asks for \(16, 32\)",
        ),
        ({"norm.weight": torch.ones(1, 32)}, r"norm\.weight has shape \(1, 32\), but .* asks for \(32,\)"),
    ],
)
def test_tensors_that_do_not_fit_the_params_are_named(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    state = write(tmp_path / "out")
    changed = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
    disown(tmp_path / "out" / "consolidated.pth")
    torch.save(changed, tmp_path / "out" / "consolidated.pth")
    with pytest.raises(CallamaError, match=message) as caught:
        read_native(tmp_path / "out")
    assert str(tmp_path / "out" / "consolidated.pth") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": 2}, r"lacks tensor layers\.1\."),
        ({"vocab_size": 12}, r"has shape \(11, 32\), but .*params\.json asks for \(12, 32\)"),
        ({"n_kv_heads": 2}, r"attention\.wk\.weight has shape \(16, 32\)"),
        ({"dim": 31}, "dim 31 must be a multiple of n_heads 2"),
        ({"n_kv_heads": "1"}, "n_kv_heads must be a whole number above zero, found '1'"),
        ({"n_experts": 4}, "unknown key 'n_experts'"),
        ({"dim": 10**400}, r"dim must be at most 16,777,216, found 1000\S{30,50}$"),
        ({"rope_theta": 10**400}, "rope_theta must be a number above zero, found 1000"),
        ({"ffn_dim_multiplier": 1e-9}, "the feed-forward would be 0 wide"),
    ],
)
def test_params_that_do_not_fit_the_tensors_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path / "out")
    params = tmp_path / "out" / "params.json"
    params.write_text(json.dumps({**json.loads(params.read_text()), **change}))
    with pytest.raises(CallamaError, match=message) as caught:
        read_native(tmp_path / "out")
    assert str(params) in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '"text"', "\x00\xff"])
def test_a_params_json_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path / "out")
    (tmp_path / "out" / "params.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CallamaError, match=r"params\.json (is not JSON|must be a JSON object)"):
        read_native(tmp_path / "out")


def test_a_folder_that_is_no_checkpoint_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone is not a folder; expected a native checkpoint"):
        read_native(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"params\.json does not exist"):
        read_native(tmp_path)
    with pytest.raises(UsageError, match="is a folder; expected a state dict"):
        load_tensors(tmp_path)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class AlmostFull(io.FileIO):
    """A file on a disk with room for a thousand bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 1000:
            full_disk()
        return super().write(data)


def really_full(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def almost_full(path: Path, *args: Any, **kwargs: Any) -> Any:
        return AlmostFull(path, "w") if path.name == "consolidated.pth" else real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", almost_full)


@pytest.mark.parametrize(
    "fill",
    [
        lambda patch: patch.setattr(native, "save_pth", full_disk),
        lambda patch: patch.setattr(files.os, "fsync", full_disk),
        lambda patch: patch.setattr(native.shutil, "copyfile", full_disk),
        really_full,
    ],
    ids=["while saving", "at fsync", "while copying", "inside the writer"],
)
@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_the_destination_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Callable[[pytest.MonkeyPatch], None], existing: bool
) -> None:
    if existing:
        write(tmp_path / "out", step="old")
    (tmp_path / "tokenizer.json").write_text("{}")
    before, state = snapshot(tmp_path), tiny(LLAMA_3).state_dict()
    with monkeypatch.context() as patch:
        fill(patch)
        with pytest.raises(CallamaError, match=r"the disk is full while writing .*out.*; free some space"):
            write_native(tmp_path / "out", LLAMA_3, state, tmp_path / "tokenizer.json", {"step": "new"})
    assert snapshot(tmp_path) == before
    assert {p.name for p in tmp_path.iterdir()} == {"tokenizer.json", *(["out"] if existing else [])}


def test_a_stopped_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = write(tmp_path / "out")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(native, "save_pth", stopped)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "out", LLAMA_3)
    assert same(read_native(tmp_path / "out").state, state)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
