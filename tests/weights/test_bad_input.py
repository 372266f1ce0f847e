"""Damaged sources of every format: a clear refusal, the source as it was, nothing at the destination."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from callama.common.errors import CallamaError, UsageError
from callama.common.verify import verify_folder
from callama.weights.adapter import find_adapter, read_adapter
from callama.weights.convert import convert, open_source
from callama.weights.merge import merge_to_folder
from callama.weights.native import write_native
from callama.weights.pth import open_pth
from tests import tiny
from tests.weights.conftest import PARAMS
from tests.weights.formats import disown, random_state, same, snapshot

# One file of each kind that holds numbers, and those that say what they mean.
FILES = (
    "native/consolidated.pth", "native/params.json", "native/tokenizer.json", "meta/consolidated.01.pth",
    "meta/params.json", "hf/model-00002-of-00003.safetensors", "hf/model.safetensors.index.json", "hf/config.json",
    "hf/tokenizer.json", "bin/pytorch_model.bin", "model.gguf", "peft/adapter_model.safetensors",
    "peft/adapter_config.json", "original/lora.pt", "original/lora.json", "zero/out/pytorch_model.bin",
)  # fmt: skip
PICKLES = [name for name in FILES if name.endswith((".pth", ".bin", ".pt"))]


def use(root: Path, name: str, out: Path) -> None:
    """What a user does with a source or an adapter: convert the one, merge the other."""
    kind = name.split("/")[0]
    if kind in ("peft", "original", "zero"):
        place = {"peft": "peft", "original": "original/lora.pt", "zero": "zero/out"}[kind]
        merge_to_folder(root / "native", root / place, out, max_changed=1)
    else:
        convert(root / kind, out, "hf" if kind == "native" else "native")


@pytest.fixture
def sources(whole: Path, tmp_path: Path) -> Path:
    """A copy of ``whole`` that may be damaged."""
    shutil.copytree(whole, tmp_path / "sources")
    return tmp_path / "sources"


def assert_refused(root: Path, name: str, message: str) -> None:
    before = snapshot(root)
    with pytest.raises(CallamaError, match=message):
        use(root, name, root / "out")
    assert snapshot(root) == before and not any(p.suffix == ".tmp" for p in root.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_what_is_whole_is_taken(whole: Path, tmp_path: Path, name: str) -> None:
    before = snapshot(whole)
    use(whole, name, tmp_path / "out")
    assert snapshot(whole) == before and verify_folder(tmp_path / "out").files


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(sources: Path, whole: Path, name: str, share: float) -> None:
    data = (whole / name).read_bytes().rstrip()
    (sources / name).write_bytes(data[: int(share * len(data))])
    assert_refused(sources, name, re.escape(str(sources)))


@pytest.mark.parametrize("name", [name for name in FILES if "zero" not in name])
def test_a_file_that_is_gone_is_refused(sources: Path, name: str) -> None:
    (sources / name).unlink()
    if "tokenizer" in name:
        return  # a model without one is a model still
    assert_refused(sources, name, "does not exist|lacks|has 1 of 2 shards|is no model that callama knows|is neither")


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_random_damage_ends_in_a_refusal_or_a_whole_result(
    sources: Path, whole: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray((whole / name).read_bytes())
    # Where formats keep what they say about themselves: at the start and at the end.
    places = st.integers(0, min(3000, len(content) - 1)).flatmap(
        lambda at: st.sampled_from([at, len(content) - 1 - at])
    )
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    (sources / name).write_bytes(content)
    shutil.rmtree(sources / "out", ignore_errors=True)
    before = snapshot(sources)
    try:
        use(sources, name, sources / "out")
    except CallamaError:
        assert snapshot(sources) == before
    else:
        assert verify_folder(sources / "out").extra == []
    assert not any(p.suffix == ".tmp" for p in sources.iterdir())


@pytest.mark.parametrize(
    ("field", "value"),
    [("attention.head_count_kv", 3), ("attention.head_count", 0), ("context_length", 0)],
)
def test_a_gguf_file_whose_fields_describe_no_model_is_refused(sources: Path, field: str, value: int) -> None:
    found = gguf.GGUFReader(sources / "model.gguf", "r+").fields[f"llama.{field}"]
    found.parts[found.data[0]][:] = value
    assert_refused(sources, "model.gguf", "describe no model")


@pytest.mark.parametrize("name", PICKLES)
def test_a_flipped_bit_in_torchs_format_is_noticed(sources: Path, name: str) -> None:
    content = bytearray((sources / name).read_bytes())
    content[len(content) // 2] ^= 1
    (sources / name).write_bytes(content)
    assert_refused(sources, name, f"{Path(name).name} is damaged: tensor .* does not have the checksum")


def test_a_zip_directory_that_says_impossible_things_is_refused(sources: Path) -> None:
    content = bytearray((sources / "bin/pytorch_model.bin").read_bytes())
    content[content.index(b"PK\x06\x07") + 16] = 9  # of nine disks
    (sources / "bin/pytorch_model.bin").write_bytes(content)
    assert_refused(sources, "bin/pytorch_model.bin", r"pytorch_model\.bin is not in torch's zip format")


def test_a_file_that_torch_saved_without_checksums_is_read(sources: Path) -> None:
    state = torch.load(sources / "native/consolidated.pth", weights_only=True)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, sources / "native/consolidated.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    disown(sources / "native/consolidated.pth")
    assert same(open_pth(sources / "native/consolidated.pth"), state)


class Touch:
    """Unpickling this creates a file: the simplest code that a checkpoint can run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", PICKLES)
def test_trap_28_code_in_a_pickle_is_refused_and_not_run(sources: Path, tmp_path: Path, name: str) -> None:
    ran = tmp_path / "it ran"
    disown(sources / name)
    torch.save({**torch.load(sources / name, weights_only=True), "code": Touch(ran)}, sources / name)
    assert_refused(
        sources,
        name,
        "cannot be read as a checkpoint of plain tensors: it refers to .*getattr, which plain tensors do not need",
    )
    assert not ran.exists()
    torch.load(sources / name, weights_only=False)
    assert ran.exists(), "the file was not harmful; this test proved nothing"


def in_file(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        disown(path)
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        change(state)
        state = {name: tensor.contiguous() for name, tensor in state.items()}
        save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)

    return damage


def renamed(state: dict[str, torch.Tensor]) -> None:
    state["mystery"] = state.pop(next(n for n in state if "w1" in n or "gate_proj" in n))


def narrower(state: dict[str, torch.Tensor]) -> None:
    name = next(n for n in state if "w1" in n or "gate_proj" in n)
    state[name] = state[name][:, :-2]


def in_json(**changes: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **changes})) and None


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("native/consolidated.pth", in_file(renamed), r"lacks tensor layers\.\d\.feed_forward\.w1|unexpected.*mystery"),
        ("native/consolidated.pth", in_file(narrower), r"feed_forward\.w1\.weight has shape .* asks for"),
        ("native/params.json", in_json(n_layers=3), r"lacks tensor layers\.2\.\S+ by the shape in .*params\.json"),
        ("native/params.json", in_json(vocab_size=399), r"has shape .*params\.json asks for"),
        ("native/params.json", in_json(n_heads=7), "dim 128 must be a multiple of n_heads 7"),
        ("meta/consolidated.01.pth", in_file(renamed), "shards of different models: only one has"),
        ("meta/consolidated.01.pth", in_file(narrower), "shards of different models: layers"),
        ("meta/params.json", in_json(vocab_size=800), "has 2 of 4 shards"),
        ("meta/params.json", in_json(dim=256), r"has shape .*params\.json asks for"),
        ("hf/model-00002-of-00003.safetensors", in_file(renamed), "lacks tensor .*gate_proj.*which .*index.json says"),
        ("hf/model-00002-of-00003.safetensors", in_file(narrower), r"w1\.weight has shape .*config\.json asks for"),
        ("hf/config.json", in_json(hidden_size=256), "head_dim 16 times 8 heads is not hidden_size 256"),
        ("bin/pytorch_model.bin", in_file(renamed), "mystery is not part of a Llama model"),
        ("bin/pytorch_model.bin", in_file(narrower), r"w1\.weight has shape .*config\.json asks for"),
        ("peft/adapter_model.safetensors", in_file(renamed), "'mystery' is not a LoRA factor"),
        ("peft/adapter_config.json", in_json(r=8), "has A, B of .*another base"),
        ("meta/consolidated.00.pth", in_file(lambda s: s.update(odd=torch.ones(2))), "only one has odd"),
        ("hf/config.json", in_json(sliding_window=128), "sliding_window is 128; callama's Llama has None"),
        ("hf/config.json", in_json(is_causal=False), "is_causal is False; callama's Llama has True"),
        ("hf/config.json", in_json(rope_parameters={"partial_rotary_factor": 0.5}), "partial_rotary_factor is 0.5"),
        ("native/params.json", in_json(n_layers=10**7), "n_layers must be at most 1000, found 10000000"),
        ("native/MANIFEST.json", in_json(max_seq_len="x"), r"MANIFEST\.json: max_seq_len must be a number above zero"),
        ("native/MANIFEST.json", in_json(max_seq_len=2**40), "max_seq_len must be a number above zero, at most 2.31"),
        ("native/MANIFEST.json", in_json(rope_scale_factor=-1), "rope_scale_factor must be a number above zero"),
        ("hf/config.json", in_json(rope_scaling="x"), "rope_scaling must be an object, found 'x'"),
        (
            "hf/config.json",
            in_json(max_position_embeddings="x"),
            "max_position_embeddings must be a whole number above zero",
        ),
        ("hf/config.json", in_json(tie_word_embeddings=True), r"but lm_head\.weight is another matrix"),
        ("peft/adapter_config.json", in_json(lora_dropout="x"), "key 'lora_dropout' is missing or of the wrong type"),
        ("peft/adapter_config.json", in_json(target_modules=[["q_proj"]]), "is not a linear layer of Llama"),
        ("original/lora.pt", in_file(narrower), "has A, B of .*another base"),
        ("original/lora.json", in_json(lora_rank=8), "has A, B of .*another base"),
    ],
)
def test_names_shapes_and_settings_that_disagree_are_named(
    sources: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(sources / name)
    assert_refused(sources, name, message)


@pytest.mark.parametrize("name", ["native/consolidated.pth", "meta/consolidated.01.pth", "hf/config.json"])
def test_a_tokenizer_of_another_vocabulary_is_refused(sources: Path, name: str) -> None:
    tiny.write_tokenizer(sources / name.split("/")[0] / "tokenizer.json", PARAMS.vocab_size - 7)
    assert_refused(sources, name, "has 393 tokens, the model 400: this tokenizer belongs to another model")


def test_an_adapter_of_other_weights_is_refused(sources: Path, tmp_path: Path) -> None:
    other = random_state(PARAMS, tied=False, dtype=torch.float32)
    write_native(tmp_path / "other", PARAMS, other, None, {})
    with pytest.raises(CallamaError, match=r"was trained on weights .*other has"):
        merge_to_folder(tmp_path / "other", sources / "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_kind_is_not_replaced_by_a_gguf(sources: Path) -> None:
    (sources / "notes.gguf").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.gguf is there and is no GGUF file of callama's; choose another name"):
        convert(sources / "native", sources / "notes.gguf", "gguf")
    assert (sources / "notes.gguf").read_text() == "mine"
    (sources / "native/MANIFEST.json").unlink()
    convert(sources / "native", sources / "model.gguf", "gguf")


def test_a_manifest_without_hashes_is_no_reason_to_refuse_a_merge(sources: Path, tmp_path: Path) -> None:
    manifest = sources / "native/MANIFEST.json"
    for files in ([1], {"consolidated.pth": 7}):
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "files": files}))
        merge_to_folder(sources / "native", sources / "peft", tmp_path / "out", max_changed=1)


def test_a_jobs_folder_whose_newest_checkpoint_cannot_be_read_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "latest").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is neither an adapter folder"):
        read_adapter(find_adapter(tmp_path), PARAMS)
    (tmp_path / "latest").write_bytes(b"step\0")
    with pytest.raises(
        UsageError, match=r"latest names no folder, found 'step\\x00'; write a checkpoint's name into it"
    ):
        find_adapter(tmp_path)


def test_a_gguf_field_that_is_no_text_is_named(sources: Path) -> None:
    path = sources / "model.gguf"
    path.write_bytes(path.read_bytes().replace(b"llama", b"\xffl\xffma", 1))
    with pytest.raises(CallamaError, match=r"damaged: the field general\.architecture cannot be read"):
        open_source(path)


def test_gguf_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    for name, value in {"context_length": 8, "embedding_length": 8, "block_count": 1, "feed_forward_length": 8,
                        "attention.head_count": 1}.items():  # fmt: skip
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writer.add_token_types([1])
    writer.add_token_merges([])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CallamaError):
        open_source(tmp_path / "a.gguf")


@pytest.mark.parametrize("place", ["native", "meta", "hf", "peft"])
def test_a_folder_that_may_not_be_read_or_is_no_folder_is_wrong_use(sources: Path, place: str) -> None:
    shutil.rmtree(sources / place)
    (sources / place).symlink_to(sources / "nowhere")
    with pytest.raises(UsageError, match="does not exist"):
        convert(sources / place, sources / "out", "hf")
    with pytest.raises(UsageError, match="is neither an adapter folder"):
        read_adapter(sources / place, PARAMS)


NUMBERED = [*(name for name in FILES if name.endswith(".json")), "native/MANIFEST.json", "peft/MANIFEST.json"]


@pytest.mark.parametrize("name", NUMBERED)
def test_a_number_of_thousands_of_digits_is_one_clear_message(sources: Path, name: str) -> None:
    """Python itself refuses to read it, in words for programmers."""
    path = sources / name
    disown(path)
    path.write_text(path.read_text().replace("{", '{"odd": %s,' % ("9" * 5000), 1))
    assert_refused(sources, name, rf"{re.escape(path.name)} is .*it holds a number of more than 4,300 digits")
