"""How well a model still knows plain text: perplexity before and after, to see what was forgotten.

The text is read in windows of equal length, each by itself, so that the windows can be resampled for an
interval. Perplexity compares models with one tokenizer, bits per byte also those with different ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from callama.common.errors import CallamaError
from callama.common.files import require_file, sha256_file
from callama.common.progress import Meter
from callama.evaluate.local import LocalModel
from callama.evaluate.statistics import perplexity_of, ratio
from callama.model.attend import Documents
from callama.text.tokenizer import load_tokenizer
from callama.weights.native import read_params

WINDOW_TOKENS = 512
_LOGIT_ROWS = 128


@dataclass(frozen=True)
class Prose:
    """A text file as one model reads it, in windows of token ids."""

    file: str
    sha256: str
    windows: list[list[int]]


def read_prose(model: LocalModel, path: Path) -> Prose:
    """Reads a plain text file for a model whose weights are not needed for it: a slip in the file must not cost the
    hours that an evaluation takes.

    Raises:
        UsageError: no such file. CallamaError: it is not UTF-8, or too short to say anything.
    """
    try:
        text = require_file(path, "plain text").read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CallamaError(f"{path} is not UTF-8 text ({error}); convert it first") from None
    ids = load_tokenizer(model.folder).encode(text)
    size = min(WINDOW_TOKENS, read_params(model.folder).max_seq_len)
    windows = [window for i in range(0, len(ids), size) if len(window := ids[i : i + size]) > 1]
    if not windows:
        raise CallamaError(f"{path} has {len(ids)} tokens; expected at least 2, better some thousands")
    return Prose(path.name, sha256_file(path), windows)


def perplexity(model: LocalModel, prose: Prose) -> dict[str, Any]:
    """Perplexity of a text with a 95 % bootstrap interval over windows, and bits per byte."""
    chat, windows = model.chat, prose.windows
    nats, counts = [], []
    with Meter("reading plain text", sum(map(len, windows)), "tokens") as meter:
        for window in windows:
            nats.append(_nats(chat.model, torch.tensor([window], device=chat.model.tok_embeddings.weight.device)))
            counts.append(len(window) - 1)
            meter.advance(len(window))
    mean = ratio(nats, counts)
    # The first token of a window is given, not predicted: its bytes are not counted.
    pieces = chat.renderer.tokenizer.pieces
    seen = sum(len(pieces[token]) for window in windows for token in window[1:])
    model.close()
    return {"perplexity": perplexity_of(mean["rate"]), "low": perplexity_of(mean["low"]),
            "high": perplexity_of(mean["high"]), "tokens": sum(counts),
            "bits_per_byte": sum(nats) / math.log(2) / seen, "windows": len(windows),
            "file": prose.file, "sha256": prose.sha256}  # fmt: skip


@torch.inference_mode()
def _nats(model: Any, tokens: Tensor) -> float:
    """Negative log-likelihood of (1, n) tokens behind the first, in nats."""
    hidden = model(tokens, Documents([[tokens.shape[1]]], tokens.device))[0, :-1]
    total = 0.0
    for rows, targets in zip(*(torch.split(x, _LOGIT_ROWS) for x in (hidden, tokens[0, 1:])), strict=True):
        total += float(F.cross_entropy(model.logits(rows), targets, reduction="sum"))
    return total
