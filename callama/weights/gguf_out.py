"""GGUF files for llama.cpp and Ollama, with the tokenizer and the chat template inside.

llama.cpp keeps q and k in Meta's order, so names change and rows stay; norms are F32 as its kernels
want them. The ``gguf`` library writes the head of the file, the numbers follow block by block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from callama import __version__
from callama.common.errors import CallamaError, UsageError
from callama.common.files import HashingFile, atomic_file, name_of
from callama.common.progress import Meter
from callama.model.params import ModelParams
from callama.model.rope import rope_frequencies
from callama.text.chat_template import chat_template
from callama.text.gguf_vocab import CONTROL, USER_DEFINED
from callama.text.hf_tokenizer import NORMAL, pre_tokenizer_name, spec_of
from callama.text.markup import markup_of
from callama.weights.gguf_head import read_head
from callama.weights.gguf_in import (
    HEAD_SEAL,
    NO_SEAL,
    ROPE_DIVISORS,
    SEAL,
    SEALED_BYTES,
    crc32_text,
    find_seal,
    has_own_head,
    is_sealed,
    size_field,
)
from callama.weights.lazy import Lazy, cast, check_files, of_tensor, read_ahead
from callama.weights.names import gguf_name
from callama.weights.pth import raw_bytes
from callama.weights.source import Source, dtype_word
from callama.weights.tokenizers import loaded_tokenizer

_KINDS = {
    torch.float32: gguf.GGMLQuantizationType.F32,
    torch.float16: gguf.GGMLQuantizationType.F16,
    torch.bfloat16: gguf.GGMLQuantizationType.BF16,
}
_FILE_TYPES = {
    "fp32": gguf.LlamaFileType.ALL_F32,
    "fp16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
}
ALIGNMENT = gguf.GGUF_DEFAULT_ALIGNMENT


def write_gguf(path: Path, source: Source) -> None:
    """Writes one GGUF file. It has no folder of its own and so no manifest: its facts and its CRC-32 stand inside it.

    Raises:
        UsageError: ``path`` has another ending, or a file that callama did not write stands there.
        CallamaError: there is no tokenizer, or one that llama.cpp does not know.
    """
    if source.tokenizer is None:
        raise CallamaError(f"{source.path} has no tokenizer; a GGUF file needs one inside")
    if path.suffix != ".gguf":
        raise UsageError(f"{path} must be named FILE.gguf: that is how callama and llama.cpp know it")
    if path.is_file() and not _is_ours(path):
        raise UsageError(f"{path} is there and is no GGUF file of callama's; choose another name")
    tensors = {gguf_name(n): t if len(t.shape) == 2 else cast(t, torch.float32) for n, t in source.tensors.items()}
    if source.params.use_scaled_rope:
        tensors[ROPE_DIVISORS] = of_tensor(_divisors(source.params))
    for name, tensor in tensors.items():
        if tensor.dtype not in _KINDS:
            raise CallamaError(f"{name} is {tensor.dtype}; say --dtype fp32, fp16 or bf16")
    with atomic_file(path) as temporary:
        writer = gguf.GGUFWriter(temporary, "llama")
        _add_shape(writer, source)
        _add_tokenizer(writer, source)
        for name, tensor in tensors.items():
            kind = _KINDS[tensor.dtype]
            # numpy has no bf16; the library looks only whether the type is uint8, and at raw_dtype.
            dtype = np.dtype(f"float{8 * tensor.dtype.itemsize}")
            writer.add_tensor_info(name, list(tensor.shape), dtype, tensor.nbytes, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        _append(temporary, tensors)
        check_files(tensors.values())


def _is_ours(path: Path) -> bool:
    try:
        return is_sealed(reader := read_head(path), path) and has_own_head(reader, path)
    except CallamaError:
        return False


def _append(path: Path, tensors: Mapping[str, Lazy]) -> None:
    total = sum(tensor.nbytes for tensor in tensors.values())
    head = path.read_bytes()
    head += bytes(-len(head) % ALIGNMENT)
    size = len(head) + sum(tensor.nbytes + -tensor.nbytes % ALIGNMENT for tensor in tensors.values())
    head = head.replace(size_field(0), size_field(size), 1)
    at, of_head = find_seal(head), find_seal(head, HEAD_SEAL)
    assert at is not None and of_head is not None, "the head was written without their places"
    head = head[:of_head] + crc32_text(head) + head[of_head + len(NO_SEAL) :]
    with contextlib.closing(HashingFile(path, with_crc32=True)) as file, Meter("writing", total, "bytes") as meter:
        file.write(head)
        for _, blocks in read_ahead(tensors):
            for block in blocks:
                file.write(raw_bytes(block))
                meter.advance(block.nbytes)
            file.write(bytes(-file.tell() % ALIGNMENT))
    crc32 = file.checksums.crc32
    assert crc32 is not None
    with path.open("r+b") as sealed:
        sealed.seek(at)
        sealed.write(crc32.encode())


def _divisors(params: ModelParams) -> torch.Tensor:
    """What each frequency is divided by (ggml-org/llama.cpp, ``convert_hf_to_gguf.py``)."""
    plain = ModelParams(params.dim, 1, params.n_heads, params.vocab_size, rope_theta=params.rope_theta)
    return rope_frequencies(plain) / rope_frequencies(params)


def _add_shape(writer: Any, source: Source) -> None:
    params = source.params
    writer.add_name(name_of(source.path).removesuffix(".gguf"))
    writer.add_description(f"converted by callama from {source.kind}")
    writer.add_file_type(_FILE_TYPES[dtype_word(source.tensors)])
    writer.add_context_length(params.max_seq_len)
    writer.add_embedding_length(params.dim)
    writer.add_block_count(params.n_layers)
    writer.add_feed_forward_length(params.ffn_dim)
    writer.add_head_count(params.n_heads)
    writer.add_head_count_kv(params.kv_heads)
    writer.add_layer_norm_rms_eps(params.norm_eps)
    writer.add_rope_freq_base(params.rope_theta)
    writer.add_rope_dimension_count(params.head_dim)
    writer.add_vocab_size(params.vocab_size)
    # GGUF says these in single precision or, the factor, as what comes of it.
    for key in ("norm_eps", "rope_theta", *(("rope_scale_factor",) if params.use_scaled_rope else ())):
        writer.add_float64(f"callama.{key}", getattr(params, key))
    for key, value in {"version": __version__, **source.origin()}.items():
        # A manifest may hold half a character's escape, which no text field can.
        writer.add_string(f"callama.{key}", str(value).encode(errors="backslashreplace").decode())
    for name in (SEAL, HEAD_SEAL):
        writer.add_string(name, NO_SEAL.decode())
    writer.add_uint64(SEALED_BYTES, 0)


def _add_tokenizer(writer: Any, source: Source) -> None:
    tokenizer = loaded_tokenizer(source)
    assert tokenizer is not None and source.tokenizer is not None
    spec = spec_of(source.tokenizer)
    model, added = spec["model"], {token["id"]: token for token in spec.get("added_tokens") or ()}
    tokens, types = [""] * tokenizer.vocab_size, [NORMAL] * tokenizer.vocab_size
    for token, number in model["vocab"].items():
        tokens[number] = token
    for number, token in added.items():
        tokens[number], types[number] = token["content"], CONTROL if token["special"] else USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    markup, specials = markup_of(tokenizer), tokenizer.special_tokens
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(spec, source.path))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(specials[(markup.begin or markup.header)[0].text])
    writer.add_eos_token_id(specials[markup.end])
    writer.add_add_bos_token(bool(markup.begin))
    writer.add_chat_template(chat_template(tokenizer, marks=False))
