"""Attention in blocks, and with keys and values for each head, is attention."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from callama.generate.cache import LONG_TOKENS, Append, KVCache
from callama.model.attend import BLOCK_TOKENS, _causal, attention_in_blocks, own_heads
from callama.model.params import ModelParams


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


LONG = LONG_TOKENS + 4
# Tokens that slots hold, and that each adds: short ones of one length, of several, one alone, long ones, and both.
STEPS = [
    ([9, 30, 4], [1, 1, 1]),
    ([9, 30, 4], [1, 5, 2]),
    ([9], [1]),
    ([0, 20], [LONG, LONG]),
    ([0, 20, 7], [LONG, 1, LONG]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("lengths", "counts"), STEPS)
def test_a_gpu_generates_the_same_and_is_never_asked_for_masks_and_shared_heads_at_once(
    lengths: list[int], counts: list[int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its way is gone on the CPU, whose kernel takes everything, and what that is asked for is noted."""
    params = ModelParams(
        dim=48, n_layers=1, n_heads=6, n_kv_heads=2, vocab_size=9, multiple_of=8, rope_theta=1e4, max_seq_len=64
    )
    asked: list[tuple[bool, bool]] = []
    fused = F.scaled_dot_product_attention

    def kernel(q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Tensor:
        asked.append((given["attn_mask"] is not None, k.shape[1] < q.shape[1]))
        assert given["enable_gqa"] == asked[-1][1]
        return fused(q, k, v, **given).transpose(1, 2).contiguous().transpose(1, 2)  # as it lies on a GPU

    def attended() -> Tensor:
        torch.manual_seed(0)
        cache = KVCache(params, len(lengths), 64, dtype, torch.device("cpu"))
        for tensor in (cache.keys, cache.values):
            tensor.copy_(torch.randn(tensor.shape))
        q, k, v = (torch.randn(1, sum(counts), heads, 8).to(dtype) for heads in (6, 2, 2))
        return Append(cache, lengths, counts)(0, q, k, v, 0.0)

    expected = attended()
    monkeypatch.setattr(F, "scaled_dot_product_attention", kernel)
    for module in ("callama.model.attend", "callama.generate.cache"):
        monkeypatch.setattr(f"{module}.on_gpu", lambda device: True)
    limit = 2e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(attended(), expected, rtol=limit, atol=limit)
    assert asked and not any(shared and (masked or dtype == torch.float32) for masked, shared in asked)


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
