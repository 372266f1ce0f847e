"""How well a run uses its machine: the model's floating-point operations each second, as a share of the rate that the
device reaches with matrix products and nothing else, measured when the run starts.

The share means the same on every device and asks for no table of processors. What is counted is what the model
needs (arXiv:2204.02311, appendix B), so running blocks again (``train.recompute``) and unpacking 4 bits lower it.
"""

from __future__ import annotations

import time

import torch

from callama.model.lora import LoRAParams
from callama.model.params import ModelParams
from callama.train.memory import Load, linear_shapes

_SECONDS = 0.2  # of measuring, after a product that warms up
_WIDTH = {"cpu": 1024, "cuda": 4096}  # wide enough for full speed, narrow enough for a few tens of milliseconds


def micro_batch_flops(params: ModelParams, lora: LoRAParams | None, load: Load) -> int:
    """Operations of one micro-batch, there and back; ``lora`` is None where all weights are trained.

    A product of T tokens with N weights takes 2 N T operations, and its way back 2 N T for the gradient of its
    input and 2 N T for that of its weights (arXiv:2001.08361, section 2.1). Frozen weights have no gradient: 4 N T.
    Trained ones, and the adapters' factors, have: 6 N T. The output projection sees supervised positions only.
    Each pair of a query and a key that it may see takes 4 dim operations there and 8 dim back.
    """
    frozen = trained = attention = 0
    for name, (out, into) in linear_shapes(params).items():
        frozen += out * into
        if lora is not None and name in lora.layers:
            trained += lora.rank * (out + into)
    if lora is None:
        frozen, trained = 0, frozen
    for queries, keys, _ in load.pieces():
        attention += queries * (keys - queries) + queries * (queries + 1) // 2
    blocks = params.n_layers * ((4 * frozen + 6 * trained) * load.tokens + 12 * params.dim * attention)
    return blocks + (6 if lora is None else 4) * params.vocab_size * params.dim * load.supervised


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest product of two square matrices within a fraction of a second."""
    width = _WIDTH[device.type]
    generator = torch.Generator(device).manual_seed(0)  # the run's own random numbers stay as they are
    one, other = (torch.rand(width, width, generator=generator, device=device).to(dtype) for _ in range(2))
    fastest, began = float("inf"), 0.0
    for attempt in range(1000):
        start = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        if attempt == 0:
            began = now
            continue
        fastest = min(fastest, now - start)
        if now - began > _SECONDS:
            break
    return 2 * width**3 / fastest
