"""Where a model runs and in which precision, when the user leaves the choice to us."""

from __future__ import annotations

import torch


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one. What a GPU has to be told before a model attends there, it is told here.

    Raises:
        ValueError: CUDA was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError('the device is "cuda" but torch finds no CUDA device; use "auto" or "cpu"')
    device = torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        # Torch prefers cuDNN's attention on the newest GPUs. It makes a plan, in up to half a second, for every shape
        # and stride that it has not seen, and here documents and caches have ever new ones.
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 on GPUs and CPUs that multiply bf16 in hardware, else fp32."""
    if name == "auto":
        return torch.bfloat16 if multiplies_bf16(device) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device that is here does it in hardware; of GPUs those of the Ampere generation and newer."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def require_dtype(name: str, device: torch.device) -> None:
    """Refuses bf16 on a GPU that only imitates it, slowly and with all scores of the attention written out in fp32.

    Raises:
        ValueError: it is such a GPU.
    """
    if name == "bf16" and device.type == "cuda" and not multiplies_bf16(device):
        raise ValueError(
            "dtype=bf16 is set and this GPU only imitates bf16; leave it out, or use a GPU of the Ampere generation "
            "(RTX 30, A100) or newer"
        )
