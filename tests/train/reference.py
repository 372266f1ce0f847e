"""Training and losses computed the long way round, to hold the loop against."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from callama.data.dataset import Dataset, Example
from callama.data.pack import EpochPlans, Sizes
from callama.model.attend import Documents
from callama.model.lora import add_lora
from callama.model.transformer import Transformer
from callama.train.config import TrainConfig
from callama.train.schedule import learning_rate
from callama.weights.adapter import WEIGHTS, load_adapter, read_adapter
from callama.weights.native import build_model, read_native


def document_loss(model: Transformer, example: Example) -> tuple[Tensor, int]:
    """Summed cross-entropy of a conversation's supervised tokens, from the logits of all positions; their number."""
    ids = torch.from_numpy(example.input_ids.copy()).long()
    supervised = torch.from_numpy(example.supervised.copy())[1:]
    logits = model.logits(model(ids[None, :-1], Documents([[len(ids) - 1]])))[0]
    targets = ids[1:].where(supervised, -100)
    return F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum"), int(supervised.sum())


def plain_loop(config: TrainConfig) -> list[tuple[float, float]]:
    """Loss and gradient norm of each step of a textbook loop: one document after the other, the mean over all
    supervised tokens of the step, torch's own clipping and AdamW."""
    data = Dataset(config.train.dataset_sources[0])
    torch.manual_seed(config.seed)
    model = build_model(read_native(config.model_ckpt_file.parent), dtype=torch.float32)
    add_lora(model, config.lora.params())
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, betas=config.optimizer.betas, eps=config.optimizer.eps, weight_decay=config.optimizer.weight_decay
    )
    epochs = EpochPlans(Sizes.of(data), config.seed, config.train.micro_batch_size * config.model.max_seq_len)
    size, steps = config.train.gradient_accumulation_steps, []
    for epoch in range(config.train.num_epochs):
        steps += [epochs[epoch][i : i + size] for i in range(0, len(epochs[epoch]), size)]
    curve = []
    for step, micro_batches in enumerate(steps):
        losses, counts = zip(*(document_loss(model, data[i]) for batch in micro_batches for i in batch), strict=True)
        loss = torch.stack(losses).sum() / sum(counts)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.train.gradient_clipping)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(steps), config.scheduler)
        optimizer.step()
        curve.append((loss.item(), float(norm)))
    return curve


@torch.no_grad()
def mean_loss(model_folder: Path, data: Path, adapter_folder: Path | None = None) -> float:
    """Mean cross-entropy per supervised token of a data file, document by document, without dropout."""
    checkpoint = read_native(model_folder)
    model = build_model(checkpoint, dtype=torch.float32)
    if adapter_folder is not None:
        adapter = read_adapter(adapter_folder, checkpoint.params)
        load_adapter(add_lora(model, adapter.lora), adapter)
    model.eval()
    dataset = Dataset(data)
    losses, counts = zip(*(document_loss(model, dataset[i]) for i in range(len(dataset))), strict=True)
    return float(torch.stack(losses).sum()) / sum(counts)


def adapter_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's adapter."""
    return load_file(folder / WEIGHTS)


def assert_bit_equal(first: Path, second: Path) -> None:
    """Two checkpoints hold the same adapter, bit for bit."""
    one, other = adapter_tensors(first), adapter_tensors(second)
    assert set(one) == set(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name
