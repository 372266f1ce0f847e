"""What a training step keeps in memory, in bytes, counted tensor by tensor.

Every term is something that the model's code keeps; the tests hold each against the allocator. So a
change of the model that keeps more or less shows here first. Nothing is loaded or run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from callama.model.attend import SHORT_TOKENS
from callama.model.lora import LoRAParams
from callama.model.nf4 import packed_bytes
from callama.model.params import ModelParams
from callama.model.transformer import Dropout
from callama.train.config import ZeroSection, is_offloaded
from callama.train.loss import CHUNK_POSITIONS

FP32 = 4
_MASK_ALIGNMENT = 8  # to so many keys the memory-efficient attention of GPUs widens a mask
_RANDOM_STATE = 5056  # of torch's generator on the CPU, which each block that is run again keeps
# DeepSpeed's defaults, in numbers (docs: ZeRO configuration).
_REDUCE_BUCKET, _LIVE_PARAMETERS = 500_000_000, 1_000_000_000


@dataclass(frozen=True)
class Setting:
    """What decides the memory of a run: the model's shape, the method (``lora`` is None where all weights
    are trained), precision, engine and device."""

    params: ModelParams
    tied: bool
    lora: LoRAParams | None
    packed: bool
    dtype: torch.dtype
    recompute: bool
    accumulates: bool
    on_cpu: bool
    zero: ZeroSection | None
    devices: int
    dropout: Dropout = field(default_factory=Dropout)


@dataclass(frozen=True)
class Load:
    """The largest micro-batch: lengths of each document's trunk and branches, and its supervised positions."""

    documents: Sequence[Sequence[int]]
    supervised: int

    @property
    def tokens(self) -> int:
        """Positions in all."""
        return sum(map(sum, self.documents))

    def pieces(self) -> Iterator[tuple[int, int, bool]]:
        """Queries, keys, and whether keys were joined from two, of each attention."""
        for trunk, *branches in self.documents:
            yield trunk, trunk, False
            yield from ((own, trunk + own, True) for own in branches)


def linear_shapes(params: ModelParams) -> dict[str, tuple[int, int]]:
    """(out, in) of a block's linear layers by Meta's names."""
    dim, kv, ffn = params.dim, params.kv_heads * params.head_dim, params.ffn_dim
    return {
        "wq": (dim, dim), "wk": (kv, dim), "wv": (kv, dim), "wo": (dim, dim),
        "w1": (ffn, dim), "w3": (ffn, dim), "w2": (dim, ffn),
    }  # fmt: skip


def block_numbers(params: ModelParams) -> int:
    """Weights of a block's linear layers."""
    return sum(out * into for out, into in linear_shapes(params).values())


def weight_numbers(setting: Setting) -> int:
    """All weights of the model."""
    params = setting.params
    tables = params.vocab_size * params.dim * (1 if setting.tied else 2)
    return tables + params.n_layers * (block_numbers(params) + 2 * params.dim) + params.dim


def trained_numbers(setting: Setting) -> int:
    """What the optimizer updates."""
    if setting.lora is None:
        return weight_numbers(setting)
    shapes = linear_shapes(setting.params)
    block = sum(setting.lora.rank * sum(shapes[name]) for name in setting.lora.layers)
    block += sum(shapes[name][0] for name in setting.lora.layers) if setting.lora.dora else 0
    return setting.params.n_layers * block


def weight_bytes(setting: Setting) -> int:
    """The model's weights as they lie in memory, of one process."""
    size = setting.dtype.itemsize
    if not setting.packed:
        return weight_numbers(setting) * size
    blocks = setting.params.n_layers * block_numbers(setting.params)
    packed = setting.params.n_layers * sum(packed_bytes(a * b) for a, b in linear_shapes(setting.params).values())
    return (weight_numbers(setting) - blocks) * size + packed


def kept_by_block(setting: Setting, load: Load) -> int:
    """What one block keeps for its way back, when it is not run again."""
    params, tokens, size = setting.params, load.tokens, setting.dtype.itemsize
    dim, kv = params.dim, params.kv_heads * params.head_dim
    # Its input, the feed-forward's input, gate and up; two norms' scales.
    kept = tokens * (size * (2 * dim + 2 * params.ffn_dim) + 2 * FP32)
    if setting.lora is None or ("wo" in setting.lora.layers and not setting.lora.dropout):
        kept += tokens * size * dim  # what wo reads, where gradients need it
    kept += sum(_kept_by_attention(setting, *piece) for piece in load.pieces())
    if setting.dropout.hidden:  # behind attention and feed-forward
        kept += 2 * tokens * dim * _dropped_size(setting)
    if not _is_math(setting):
        kept += tokens * size * 2 * kv  # rotated keys, values
        if params.n_heads == params.kv_heads or not all(_is_written_out(setting, keys) for _, keys, _ in load.pieces()):
            kept += tokens * size * dim  # rotated queries, in one piece
    elif params.n_heads == params.kv_heads and setting.dtype == torch.float32:
        kept += tokens * size * kv  # values, which are read as they are
    if setting.lora is None:
        return kept
    shapes, lora = linear_shapes(params), setting.lora
    for out, into in (shapes[name] for name in lora.layers):
        kept += tokens * lora.rank * size
        kept += lora.rank * (into + out) * size if setting.dtype != torch.float32 else 0
        kept += tokens * out * size + out * (size + FP32) if lora.dora else 0
        if lora.dropout:
            kept += tokens * into * (2 * size if setting.on_cpu else size + 1)
    return kept


def _kept_by_attention(setting: Setting, queries: int, keys: int, joined: bool) -> int:
    """What one piece's attention keeps beside rotated queries, keys and values."""
    params, size = setting.params, setting.dtype.itemsize
    dim, kv, heads = params.dim, params.kv_heads * params.head_dim, params.n_heads
    shared, half = heads > params.kv_heads, setting.dtype != torch.float32
    if _is_math(setting):  # in fp32: queries, keys and values for each head; scores, which are dropped, what is left
        values = keys * dim * FP32 if shared or half else keys * kv * size * joined
        return (queries + keys) * dim * FP32 + values + 3 * heads * queries * keys * FP32
    if _is_written_out(setting, keys):
        kept = heads * queries * keys * size + queries * dim * size * shared  # scores, queries by group
        return kept + (2 * keys * kv * size if joined else 0)
    kept = queries * (dim * size + heads * FP32)  # output and its logarithm of sums
    if setting.on_cpu:
        return kept + (queries * keys * size + 2 * keys * kv * size if joined else 0)  # mask, joined keys and values
    if joined:
        kept += queries * (keys + -keys % _MASK_ALIGNMENT) * size
    if shared and (joined or not half):
        return kept + 2 * keys * dim * size  # keys and values for each head
    return kept + (2 * keys * kv * size if joined else 0)


def _dropped_size(setting: Setting) -> int:
    """Of a number of the mask that dropout keeps: on a CPU it is of the data's type."""
    return setting.dtype.itemsize if setting.on_cpu else 1


def _is_math(setting: Setting) -> bool:
    """Whether torch writes attention out in fp32, as it does on CPUs where weights are dropped."""
    return setting.on_cpu and setting.dropout.attention > 0


def _is_written_out(setting: Setting, keys: int) -> bool:
    short = setting.on_cpu and setting.dtype == torch.bfloat16 and keys <= SHORT_TOKENS
    return short and not setting.dropout.attention


def activation_bytes(setting: Setting, load: Load) -> int:
    """What all blocks and the final norm keep between the way there and the way back."""
    params, tokens, size = setting.params, load.tokens, setting.dtype.itemsize
    block = tokens * params.dim * size + _RANDOM_STATE if setting.recompute else kept_by_block(setting, load)
    around = tokens * (params.dim * size + FP32 + params.head_dim * FP32 + 3 * 8)  # norm, rotations, ids
    if setting.dropout.embed and setting.lora is None:  # nothing goes back behind frozen embeddings
        around += tokens * params.dim * _dropped_size(setting)
    return params.n_layers * block + around


def logits_bytes(setting: Setting, load: Load) -> int:
    """What the loss takes at its peak: a chunk of logits, its gradient and the next one."""
    half = setting.dtype != torch.float32
    chunk = min(CHUNK_POSITIONS, load.supervised) * setting.params.vocab_size
    several = load.supervised > CHUNK_POSITIONS
    work = chunk * ((14 if half else 12) if several else (10 if half else 8))
    return work + 2 * load.supervised * setting.params.dim * setting.dtype.itemsize


def work_bytes(setting: Setting, load: Load) -> int:
    """What the way back through one block takes beside what is kept, at its widest: the gate's gradients, or
    the attention's; and the block again where it is run again."""
    params, tokens, size = setting.params, load.tokens, setting.dtype.itemsize
    gate = tokens * size * (3 * params.ffn_dim + params.dim)
    written = [queries * keys for queries, keys, _ in load.pieces() if _is_written_out(setting, keys)]
    attention = tokens * size * 5 * params.dim + 2 * params.n_heads * max(written, default=0) * size
    if _is_math(setting):
        attention = max(
            FP32 * (params.n_heads * queries * keys + 2 * keys * params.dim) for queries, keys, _ in load.pieces()
        )
    again = kept_by_block(setting, load) if setting.recompute else 0
    unpacked = max(out * into for out, into in linear_shapes(params).values()) * size if setting.packed else 0
    return max(gate, attention) + again + unpacked


def parts(setting: Setting, load: Load) -> dict[str, int]:
    """Bytes of each part, of one process, on its device; not all of them are there at once (``peak_bytes``)."""
    trained, copies = trained_numbers(setting), setting.lora is None and setting.dtype != torch.float32
    copies = copies and setting.zero is None  # DeepSpeed's are counted with it
    weights, adapter = weight_bytes(setting), FP32 * trained if setting.lora is not None else 0
    optimizer, gradients = (12 if copies else 8) * trained, FP32 * trained
    engine = 0
    if (zero := setting.zero) is not None:
        share = setting.devices
        engine = FP32 * trained // share  # its own copy of what this process updates
        if zero.contiguous_gradients is not False:
            bucket = int(zero.reduce_bucket_size or _REDUCE_BUCKET)
            # Main memory is taken where it is written to only, a GPU's as soon as it is asked for.
            bucket = min(bucket, trained) if setting.on_cpu else bucket
            engine += bucket * FP32 * (2 if zero.overlap_comm and zero.stage < 3 else 1)
        optimizer //= share
        gradients //= share if zero.stage >= 2 else 1
        if is_offloaded(zero.offload_optimizer) and not setting.on_cpu:  # a CPU's main memory is the device's own
            optimizer = 0
        if zero.stage == 3:
            live = int(zero.stage3_max_live_parameters or _LIVE_PARAMETERS) * setting.dtype.itemsize
            offloaded = is_offloaded(zero.offload_param) and not setting.on_cpu
            weights = min(weights, (0 if offloaded else weights // share) + live)
    return {
        "weights": weights, "adapter": adapter, "optimizer": optimizer, "gradients": gradients, "engine": engine,
        "activations": activation_bytes(setting, load), "logits": logits_bytes(setting, load),
        "work": work_bytes(setting, load),
    }  # fmt: skip


def peak_bytes(setting: Setting, load: Load) -> int:
    """The largest of three moments: the loss at the end of the way there, the first block of the way back,
    and its end, when all gradients are there and the activations of one block only."""
    part = parts(setting, load)
    always = part["weights"] + part["adapter"] + part["optimizer"] + part["engine"]
    before = part["gradients"] if setting.accumulates else 0
    table = setting.params.vocab_size * setting.params.dim * setting.dtype.itemsize if setting.lora is None else 0
    # The table's gradient is summed over chunks in fp32 and then rounded.
    sums = table // setting.dtype.itemsize * FP32 if load.supervised > CHUNK_POSITIONS else table
    rounded = table if sums > table else 0
    there = before + part["activations"] + sums + max(part["logits"], rounded)
    back = before + part["activations"] + part["work"] + table
    end = part["gradients"] + part["activations"] // setting.params.n_layers + part["work"] + table
    return always + max(there, back, end)
