"""Hand-written gradients and the short documents' attention equal what torch derives and computes itself."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from callama.model.attend import SHORT_TOKENS, Documents
from callama.model.fused import recomputed, rms_norm, swiglu


def test_rms_norm_has_torchs_values_and_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 16, requires_grad=True)
    weight = torch.randn(16, requires_grad=True)
    upstream = torch.randn(2, 5, 16)
    expected = F.rms_norm(x, (16,), weight, 1e-5)
    wanted = torch.autograd.grad(expected, (x, weight), upstream)
    found = rms_norm(x, weight, 1e-5)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, (x, weight), upstream), wanted)


def test_swiglu_has_torchs_values_and_gradients() -> None:
    torch.manual_seed(0)
    gate, up = torch.randn(3, 7, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    upstream = torch.randn(3, 7)
    expected = F.silu(gate) * up
    wanted = torch.autograd.grad(expected, (gate, up), upstream)
    found = swiglu(gate, up)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, (gate, up), upstream), wanted)


@pytest.mark.parametrize("longest", [9, SHORT_TOKENS + 1])
def test_bf16_documents_attend_as_in_fp32(longest: int) -> None:
    torch.manual_seed(0)
    documents = [[3], [longest, 5, 2]]
    q, k, v = (torch.randn(1, longest + 10, heads, 8).bfloat16().requires_grad_() for heads in (4, 2, 2))
    upstream = torch.randn(1, longest + 10, 4, 8)
    found = Documents(documents)(0, q, k, v, 0.0)
    gradients = torch.autograd.grad(found, (q, k, v), upstream.bfloat16())
    wide = [x.detach().float().requires_grad_() for x in (q, k, v)]
    expected = Documents(documents)(0, *wide, 0.0)
    wanted = torch.autograd.grad(expected, wide, upstream)
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)
    for mine, reference in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine.float(), reference, atol=0.06, rtol=0.06)


def test_what_is_recomputed_is_not_kept_and_gives_the_same_gradients() -> None:
    x, weight = torch.randn(5, 7, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    made: list[int] = []

    def recipe() -> torch.Tensor:
        made.append(1)
        return x.detach().sin()

    def gradients(through_recipe: bool) -> tuple[torch.Tensor, ...]:
        hidden = x.sin()
        with recomputed(hidden, recipe) if through_recipe else nullcontext():
            out = (hidden @ weight.t()).exp() + (hidden @ weight.t()).cos()
        if through_recipe:
            hidden.untyped_storage().resize_(0)  # whoever still keeps it would read nothing
        return torch.autograd.grad(out.sum(), (x, weight))

    expected = gradients(False)
    torch.testing.assert_close(gradients(True), expected)
    assert len(made) == 1, "once for all that want it"
