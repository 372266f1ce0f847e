"""Frozen linear layers kept in 4 bits, NF4 with double quantisation (QLoRA, arXiv:2305.14314).

bitsandbytes packs and unpacks. The product is torch's own, so that nothing but the packed weight is
kept for the way back, on GPUs and CPUs alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callama.common.errors import UsageError

BLOCK, OUTER_BLOCK = 64, 256  # weights that share a scale, and scales that share one


def library() -> Any:
    """What packs and unpacks.

    Raises:
        UsageError: it is not installed.
    """
    # It would say on every CPU that a kernel for inference, which is not used here, is not installed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        from bitsandbytes import functional
    except ImportError:
        raise UsageError(
            "bitsandbytes is not installed; install it with: pip install -e '.[qlora]' in callama's folder"
        ) from None
    return functional


def packed_bytes(numbers: int) -> int:
    """What a weight of so many numbers takes: 4 bits each, a byte a block, 4 bytes an outer block."""
    blocks = -(-numbers // BLOCK)
    return -(-numbers // 2) + blocks + 4 * -(-blocks // OUTER_BLOCK)


class NF4Linear(nn.Module):
    """y = W x for a frozen W (out, in) that is kept packed and unpacked into ``dtype`` for each product."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        """Packs ``weight`` on the device where it is.

        Raises:
            UsageError: bitsandbytes is not installed.
        """
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._functional = library()
        # As one row: on CPUs the library (0.49, 0.50) unpacks a matrix wrongly whose rows are no whole blocks.
        self._packed, self._state = self._functional.quantize_4bit(
            weight.to(dtype).flatten(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
        )

    @property
    def weight(self) -> Tensor:
        """The rounded weight (out, in), unpacked now."""
        flat = cast(Tensor, self._functional.dequantize_4bit(self._packed, self._state))
        return flat.view(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return _product(x, self)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: NF4Linear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] @ ctx.layer.weight, None


_product = cast(Callable[[Tensor, NF4Linear], Tensor], _Product.apply)
