"""What a GPU is told and asked before a model is on it; none is needed here."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from callama.model.device import choose_device, choose_dtype, require_dtype

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "there", "told"),
    [("auto", True, True), ("cuda", True, True), ("cpu", True, False), ("auto", False, False)],
)
def test_cudnn_which_plans_for_every_shape_is_not_attended_with(
    monkeypatch: pytest.MonkeyPatch, name: str, there: bool, told: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", enable := Mock())
    assert choose_device(name).type == ("cuda" if told else "cpu")
    assert [call.args for call in enable.call_args_list] == ([(False,)] if told else [])


@pytest.mark.parametrize("has_units", [True, False])
def test_a_gpu_is_asked_whether_it_multiplies_bf16(monkeypatch: pytest.MonkeyPatch, has_units: bool) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return has_units or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_dtype("auto", CUDA) == (torch.bfloat16 if has_units else torch.float32)
    assert choose_dtype("fp32", CUDA) == torch.float32
    for name, device in (("auto", CUDA), ("fp32", CUDA), ("bf16", CPU)):
        require_dtype(name, device)
    if has_units:
        require_dtype("bf16", CUDA)
    else:
        with pytest.raises(ValueError, match=r"^dtype=bf16 is set .* leave it out, or use a GPU of the Ampere"):
            require_dtype("bf16", CUDA)
