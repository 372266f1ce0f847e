"""GGUF to native checkpoint, tensor by tensor.

llama.cpp's converter leaves q and k in Meta's interleaved order for the llama architecture, so
names change and rows stay. Quantised tensors are dequantised to fp32 by the ``gguf`` library; what
was lost when the file was quantised stays lost.
"""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from callama.common.errors import CallamaError, UsageError
from callama.common.files import sha256_file
from callama.common.progress import Meter
from callama.model.params import ModelParams
from callama.model.rope import rope_frequencies
from callama.text.gguf_vocab import tokenizer_json
from callama.weights.gguf_head import Fields, read_head
from callama.weights.lazy import BLOCK_BYTES, Lazy, cast, finite, of_file
from callama.weights.names import ffn_keys, gguf_name
from callama.weights.native import write_native
from callama.weights.seal import SourceFile
from callama.weights.source import Source, check_state, expected_shapes

ROPE_DIVISORS = "rope_freqs.weight"
# callama's own files: the CRC-32 of the whole file, with NO_SEAL where it stands itself; and that of its head, with
# NO_SEAL for both, which tells an edit of another tool that left the size as it was.
SEAL, HEAD_SEAL, NO_SEAL = "callama.crc32", "callama.head_crc32", b"0" * 8
# The size of the sealed file. Tools that change one write all its fields again; what has another size is their file.
SEALED_BYTES = "callama.bytes"
_PLAIN = {
    gguf.GGMLQuantizationType.F32: torch.float32,
    gguf.GGMLQuantizationType.F16: torch.float16,
    gguf.GGMLQuantizationType.BF16: torch.bfloat16,
}


# Fields of the llama architecture (ggml-org/llama.cpp, src/llama-arch.cpp) that are read here, say nothing about the
# numbers, or must have the value with which they change nothing. Any other may change what the model computes.
_READ = {
    "embedding_length", "feed_forward_length", "block_count", "attention.head_count", "attention.head_count_kv",
    "attention.layer_norm_rms_epsilon", "rope.freq_base", "context_length", "rope.scaling.type",
}  # fmt: skip
_SAYS_NOTHING = {"vocab_size", "tensor_data_layout", "rope.scaling.original_context_length"}
_CHANGES_NOTHING = {
    "rope.scale_linear": 1.0, "rope.scaling.factor": 1.0, "rope.scaling.attn_factor": 1.0, "logit_scale": 1.0,
    "embedding_scale": 1.0, "residual_scale": 1.0, "attention.causal": True,
}  # fmt: skip


def _params(fields: Fields, vocab_size: int, path: Path) -> ModelParams:
    def get(key: str, default: Any = None) -> Any:
        return fields.get(f"llama.{key}", default)

    try:
        dim, ffn_dim = int(get("embedding_length")), int(get("feed_forward_length"))
        meta = {
            "dim": dim,
            "n_layers": int(get("block_count")),
            "n_heads": int(get("attention.head_count")),
            "n_kv_heads": int(get("attention.head_count_kv", get("attention.head_count"))),
            "vocab_size": vocab_size,
            "norm_eps": _exact(get("attention.layer_norm_rms_epsilon"), "norm_eps", fields),
            "rope_theta": _exact(get("rope.freq_base", 10_000.0), "rope_theta", fields),
            **ffn_keys(dim, ffn_dim),
        }
        return ModelParams.from_meta(meta, max_seq_len=int(get("context_length")))
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CallamaError(f"{path}: the llama.* fields describe no model ({error})") from None


def _exact(found: float, name: str, fields: Fields) -> float:
    """A number that GGUF keeps in single precision: the one that callama wrote beside it, unless another tool changed
    it since, or else the shortest of those that single precision makes the same."""
    single = np.float32(found)
    with np.errstate(over="ignore"):
        own = fields.get(f"callama.{name}", float("nan"))
        return own if type(own) is float and np.float32(own) == single else float(str(single))


def _stretched(params: ModelParams, divisors: torch.Tensor, fields: Fields, file: SourceFile) -> ModelParams:
    """Params with Llama 3.1's RoPE scaling, which GGUF keeps as what each frequency is divided by
    (ggml-org/llama.cpp, ``convert_hf_to_gguf.py``)."""
    expected = rope_frequencies(params)
    own = fields.get("callama.rope_scale_factor", float("nan"))
    for factor in (own, round(float(divisors.max()), 3)) if divisors.shape == expected.shape else ():
        with contextlib.suppress(ValueError):
            scaled = params.scaled_by(factor)
            if torch.allclose(rope_frequencies(scaled), expected / divisors, rtol=1e-4):
                return scaled
    file.check()
    raise CallamaError(f"{file.path}: {ROPE_DIVISORS} is not Llama 3.1's scaling of RoPE, the only one callama knows")


def _check_kind(fields: Fields, path: Path) -> None:
    if (architecture := fields.get("general.architecture")) != "llama":
        raise CallamaError(f"{path} is a {architecture!r} model; callama reads 'llama'")
    if (vocabulary := fields.get("tokenizer.ggml.model")) != "gpt2":
        raise CallamaError(f"{path} has a {vocabulary!r} tokenizer; callama reads byte-level BPE ('gpt2')")
    if (scaling := fields.get("llama.rope.scaling.type", "none")) != "none":
        raise CallamaError(f"{path} scales RoPE by {scaling!r}; callama knows Llama 3.1's scaling only")
    if fields.get("split.count", 1) not in (0, 1):
        raise CallamaError(
            f"{path} is one of {fields.get('split.count')} parts of a model (field split.count); make them one file "
            "first, with llama-gguf-split --merge"
        )


def _check_plain(fields: Fields, params: ModelParams, path: Path) -> None:
    """Makes sure that no field asks for other arithmetic than Llama's.

    Raises:
        CallamaError: naming the first that does.
    """
    widths = ("rope.dimension_count", "attention.key_length", "attention.value_length")
    plain = {**_CHANGES_NOTHING, **dict.fromkeys(widths, params.head_dim)}
    for name in fields.names():
        family, _, key = name.partition(".")
        if family != "llama" or key in _READ | _SAYS_NOTHING:
            continue
        found, expected = fields.get(name), plain.get(key, 0)
        # Zero is how llama.cpp says of most that they are not there; the causal mask is no number.
        if found != expected and (found is False or found != 0):
            raise CallamaError(f"{path}: {name} is {found!r}; callama's Llama has {expected!r}, and computes no other")


def _tensor(file: SourceFile, tensor: Any) -> Lazy:
    """A tensor of the file; F32, F16 and BF16 as they are, quantised kinds dequantised to fp32 row by row."""
    shape = tuple(int(n) for n in reversed(tensor.shape))
    if not shape or 0 in shape:
        raise CallamaError(f"{file.path} is damaged: tensor {tensor.name} has the shape {shape}; nothing is in it")
    kind, offset = tensor.tensor_type, int(tensor.data_offset)
    if kind in _PLAIN:
        return finite(of_file(file, offset, shape, _PLAIN[kind]), file.path, tensor.name)
    try:
        gguf.quants.dequantize(np.zeros(gguf.GGML_QUANT_SIZES[kind][1], dtype=np.uint8), kind)
    except NotImplementedError:
        raise CallamaError(
            f"{file.path}: tensor {tensor.name} is of the type {kind.name}, which callama cannot read"
        ) from None
    row_bytes = int(tensor.n_bytes) // shape[0]

    def read(start: int, stop: int) -> torch.Tensor:
        packed = file.read(offset + start * row_bytes, (stop - start) * row_bytes).reshape(stop - start, -1)
        values = gguf.quants.dequantize(packed, kind)
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).view(stop - start, *shape[1:])

    return finite(Lazy(shape, torch.float32, read, files=(file,)), file.path, tensor.name)


def find_seal(head: bytes, name: str = SEAL) -> int | None:
    """Where in a file's head its CRC-32 stands (``HEAD_SEAL``: that of the head); None in files of other tools."""
    # A text field in GGUF is length and bytes of its name, the number of its type, length and bytes of the text.
    before = len(name).to_bytes(8, "little") + name.encode() + int(gguf.GGUFValueType.STRING).to_bytes(4, "little")
    before += len(NO_SEAL).to_bytes(8, "little")
    at = head.find(before)
    return None if at < 0 else at + len(before)


def size_field(size: int) -> bytes:
    """The field that tells of a sealed file's size, as it stands in the file's head."""
    kind = int(gguf.GGUFValueType.UINT64).to_bytes(4, "little")
    return len(SEALED_BYTES).to_bytes(8, "little") + SEALED_BYTES.encode() + kind + size.to_bytes(8, "little")


def is_sealed(reader: Any, path: Path) -> bool:
    """Whether a file is callama's, and not what another tool made of one."""
    return bool(Fields(reader, path).get(SEALED_BYTES, 0) == path.stat().st_size)


def has_own_head(reader: Any, path: Path) -> bool:
    """Whether everything in a file's head is as callama wrote it."""
    head = _head(reader, path)
    for name in (SEAL, HEAD_SEAL):
        if (at := find_seal(head, name)) is None:
            return False
        told, head = head[at : at + len(NO_SEAL)], head[:at] + NO_SEAL + head[at + len(NO_SEAL) :]
    return told == crc32_text(head)


def crc32_text(content: bytes) -> bytes:
    """A CRC-32 as it stands in a file, in place of ``NO_SEAL``."""
    return f"{zlib.crc32(content):08x}".encode()


def _head(reader: Any, path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(reader.data_offset)


def _source_file(reader: Any, path: Path) -> SourceFile:
    head = _head(reader, path)
    if (at := find_seal(head)) is None or not is_sealed(reader, path):
        return SourceFile(path)
    after = at + len(NO_SEAL)
    return SourceFile(path, head[at:after].decode("ascii", "replace"), head[:at] + NO_SEAL + head[after:])


def _narrowed(tensors: dict[str, Lazy]) -> dict[str, Lazy]:
    """Norms, which GGUF keeps in F32, in the matrices' type where that loses nothing."""
    matrices = {tensor.dtype for tensor in tensors.values() if len(tensor.shape) == 2}
    if len(matrices) != 1:
        return tensors
    (dtype,) = matrices
    exact = all(torch.equal(v, v.to(dtype).float()) for t in tensors.values() if len(t.shape) == 1 for v in [t.whole()])
    return {name: cast(tensor, dtype) for name, tensor in tensors.items()} if exact else tensors


def verify_gguf(path: Path) -> int:
    """Reads a file of callama's and holds it against the CRC-32 inside it; returns its size in bytes.

    Raises:
        UsageError: another tool wrote it.
        CallamaError: it is damaged.
    """
    reader = read_head(path)
    start, size = reader.data_offset, path.stat().st_size
    file = _source_file(reader, path)
    if not file.sealed:
        raise UsageError(f"{path} has no checksum inside; only what callama wrote can be verified")
    with Meter("verifying", size - start, "bytes") as meter:
        for at in range(start, size, BLOCK_BYTES):
            file.read(at, count := min(BLOCK_BYTES, size - at))
            meter.advance(count)
    file.check()
    return size


def open_gguf(path: Path) -> Source:
    """A GGUF file for conversion, with the tokenizer inside it.

    Raises:
        UsageError: no such file.
        CallamaError: not GGUF, not a Llama model, or a tensor that a Llama model does not have.
    """
    reader = read_head(path)
    if reader.byte_order != "I":
        raise CallamaError(f"{path} was written for machines of another byte order, which callama does not read")
    fields, file = Fields(reader, path), _source_file(reader, path)
    _check_kind(fields, path)
    tokens = fields.items("tokenizer.ggml.tokens", texts=True)
    params = _params(fields, len(tokens), path)
    _check_plain(fields, params, path)
    native_names = {gguf_name(name): name for name in expected_shapes(params, tied=False)}
    tensors: dict[str, Lazy] = {}
    for tensor in reader.tensors:
        name = native_names.get(tensor.name)
        if tensor.name == ROPE_DIVISORS:
            params = _stretched(params, _tensor(file, tensor).whole(), fields, file)
        elif name is None:
            raise CallamaError(f"{path}: tensor {tensor.name} is not part of a Llama model of {params.n_layers} layers")
        else:
            tensors[name] = _tensor(file, tensor)
    check_state(path, tensors, params, "its llama.* fields")
    try:
        spec = tokenizer_json(
            tokens,
            fields.items("tokenizer.ggml.token_type", texts=False),
            fields.items("tokenizer.ggml.merges", texts=True),
            fields.get("tokenizer.ggml.pre", "gpt-2"),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise CallamaError(f"{path}: the tokenizer.ggml.* fields describe no tokenizer ({error})") from None
    return Source("GGUF file", path, params, _narrowed(tensors), spec)


def gguf_to_native(path: Path, folder: Path) -> ModelParams:
    """Writes the native checkpoint of a GGUF file with the tokenizer inside it.

    Raises:
        As ``open_gguf``.
    """
    source = open_gguf(path)
    facts = {**source.origin(), "source_sha256": sha256_file(path)}
    write_native(folder, source.params, source.tensors, source.tokenizer, facts)
    return source.params
