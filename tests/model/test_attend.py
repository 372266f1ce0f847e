"""Attention in blocks is attention."""

import pytest
import torch
import torch.nn.functional as F

from callama.model.attend import BLOCK_TOKENS, attention_in_blocks


@pytest.mark.parametrize("queries", [1, BLOCK_TOKENS - 1, BLOCK_TOKENS, 2 * BLOCK_TOKENS + 5])
@pytest.mark.parametrize("before", [0, 1, 150])
def test_attention_in_blocks_is_causal_attention(queries: int, before: int) -> None:
    torch.manual_seed(0)
    q = torch.randn(2, 6, queries, 8)
    k, v = torch.randn(2, 2, 2, before + queries, 8)
    seen = torch.ones(queries, before + queries, dtype=torch.bool).tril_(before)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(attention_in_blocks(q, k, v), expected)
