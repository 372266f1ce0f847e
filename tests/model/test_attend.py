"""Attention in blocks, and with keys and values for each head, is attention."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from callama.model.attend import BLOCK_TOKENS, _causal, attention_in_blocks, own_heads


@pytest.mark.parametrize("queries", [1, BLOCK_TOKENS - 1, BLOCK_TOKENS, 2 * BLOCK_TOKENS + 5])
@pytest.mark.parametrize("before", [0, 1, 150])
def test_attention_in_blocks_is_causal_attention(queries: int, before: int) -> None:
    torch.manual_seed(0)
    q = torch.randn(2, 6, queries, 8)
    k, v = torch.randn(2, 2, 2, before + queries, 8)
    seen = torch.ones(queries, before + queries, dtype=torch.bool).tril_(before)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(attention_in_blocks(q, k, v), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("before", [0, 600])
def test_a_gpu_is_never_asked_for_masks_and_shared_heads_at_once(
    before: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernel there takes both but the one that writes all scores out. The tensors are torch's fake ones, which need
    no GPU."""
    asked: list[tuple[int, bool, bool]] = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, enable_gqa: bool, **rest: Any) -> Tensor:
        asked.append((k.shape[1], attn_mask is not None, enable_gqa))
        return torch.empty_like(q)

    with FakeTensorMode():
        q, k = (torch.empty(1, heads, n, 8, dtype=dtype, device="cuda") for heads, n in ((6, 5), (2, 5 + before)))
        monkeypatch.setattr(F, "scaled_dot_product_attention", kernel)
        _causal(q, k, k, 0.0)
    spread = bool(before) or dtype == torch.float32
    assert asked == [(6 if spread else 2, bool(before), not spread)]


def test_heads_of_their_own_give_the_same_values_and_gradients() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, 8, requires_grad=True) for heads, n in ((6, 5), (2, 40), (2, 40)))
    seen = torch.ones(5, 40, dtype=torch.bool).tril_(35)
    shared = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    own = F.scaled_dot_product_attention(q, own_heads(q, k), own_heads(q, v), attn_mask=seen)
    torch.testing.assert_close(own, shared)
    for given, found in zip(
        *(torch.autograd.grad(out.square().sum(), (q, k, v)) for out in (shared, own)), strict=True
    ):
        torch.testing.assert_close(found, given)
