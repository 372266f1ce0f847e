"""Rotary position embedding, interleaved as in Meta's weights, with Llama 3.1's stretched wavelengths."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from callama.model.params import ModelParams

_LOW_FREQ_FACTOR, _HIGH_FREQ_FACTOR, _ORIGINAL_CONTEXT = 1.0, 4.0, 8192


def rope_frequencies(params: ModelParams) -> Tensor:
    """Radians per position for each pair of a head's channels: (head_dim / 2,), fp32.

    The scaling is that of meta-llama/llama-models, ``llama3/model.py``, ``apply_scaling``:
    long wavelengths are stretched, short ones kept, those between blended.
    """
    pairs = torch.arange(0, params.head_dim, 2, dtype=torch.float32)
    frequencies = 1.0 / params.rope_theta ** (pairs / params.head_dim)
    if not params.use_scaled_rope:
        return frequencies
    wavelengths = 2 * math.pi / frequencies
    smooth = (_ORIGINAL_CONTEXT / wavelengths - _LOW_FREQ_FACTOR) / (_HIGH_FREQ_FACTOR - _LOW_FREQ_FACTOR)
    smooth = smooth.clamp(0.0, 1.0)
    return (1 - smooth) * frequencies / params.rope_scale_factor + smooth * frequencies


def rotation(positions_bs: Tensor, frequencies: Tensor) -> Tensor:
    """Complex rotations for positions (b, s): (b, s, 1, head_dim / 2), complex64."""
    angles = positions_bs.float()[..., None] * frequencies
    return torch.polar(torch.ones_like(angles), angles)[:, :, None]


def rotate(x_bshd: Tensor, rotation_bs1d: Tensor) -> Tensor:
    """Turns neighbouring channel pairs of x (b, s, h, d) by their position's angle; dtype is kept."""
    pairs = torch.view_as_complex(x_bshd.float().view(*x_bshd.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation_bs1d).flatten(3).type_as(x_bshd)
