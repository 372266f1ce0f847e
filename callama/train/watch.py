"""What a run says while it runs: sums over steps, a line on the terminal, curves in TensorBoard."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from callama.common.progress import duration
from callama.contract.spans import Kind
from callama.evaluate.statistics import perplexity_of
from callama.train.checkpoint import Progress
from callama.train.loss import SupervisedLoss
from callama.train.questions import Answers


class Sums:
    """Loss and greedy accuracy, overall and by token kind, over any number of micro-batches."""

    def __init__(self) -> None:
        self.losses = torch.zeros(len(Kind), dtype=torch.float64)
        self.right = torch.zeros(len(Kind), dtype=torch.float64)
        self.counts = torch.zeros(len(Kind), dtype=torch.float64)

    def over(self, total: Callable[[torch.Tensor], torch.Tensor]) -> Sums:
        """These sums and those of the other processes, added up by ``total``."""
        out = Sums()
        out.losses, out.right, out.counts = total(torch.stack([self.losses, self.right, self.counts])).unbind()
        return out

    def __iadd__(self, other: Sums) -> Sums:
        self.losses += other.losses
        self.right += other.right
        self.counts += other.counts
        return self

    def add(self, result: SupervisedLoss) -> None:
        """Adds a micro-batch's supervised positions."""
        kinds = result.kinds.cpu()
        self.losses.index_add_(0, kinds, result.losses.detach().cpu().double())
        self.right.index_add_(0, kinds, result.right.cpu().double())
        self.counts += torch.bincount(kinds, minlength=len(Kind))

    @property
    def tokens(self) -> int:
        """Supervised tokens counted so far."""
        return int(self.counts.sum())

    @property
    def loss(self) -> float:
        """Mean loss per supervised token, in nats."""
        return float(self.losses.sum() / self.counts.sum().clamp(min=1))

    @property
    def accuracy(self) -> float:
        """Share of supervised tokens whose greedy prediction is right."""
        return float(self.right.sum() / self.counts.sum().clamp(min=1))

    def scalars(self, prefix: str) -> dict[str, float]:
        """Every curve by its name in TensorBoard."""
        out = {f"{prefix}/loss": self.loss, f"{prefix}/accuracy": self.accuracy}
        out[f"{prefix}/perplexity"] = perplexity_of(self.loss)
        for kind in Kind:
            if self.counts[kind]:
                loss, name = float(self.losses[kind] / self.counts[kind]), kind.name.lower()
                out[f"{prefix}_loss/{name}"] = loss
                out[f"{prefix}_perplexity/{name}"] = perplexity_of(loss)
                out[f"{prefix}_accuracy/{name}"] = float(self.right[kind] / self.counts[kind])
        return out


def peak_memory_bytes(device: torch.device) -> int:
    """Peak of device memory on CUDA, of this process's resident memory elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Watch:
    """Prints and records a run's progress from ``start`` on; what an earlier run recorded beyond it is hidden."""

    def __init__(self, folder: Path | None, start: Progress, peak_flops_per_second: float, *, silent: bool) -> None:
        """``silent``: neither prints nor records; of several processes only one speaks. The peak is that of all
        of them together."""
        self._writer, self._silent, self._peak = None, silent, peak_flops_per_second
        if folder is not None and not silent:
            self._writer = SummaryWriter(str(folder), purge_step=start.step + 1, flush_secs=10)
        self._last = replace(start)

    def step(self, progress: Progress, sums: Sums, learning_rate: float, gradient_norm: float, memory: int) -> None:
        """Says where training stands; ``sums`` cover the steps since the last call. Rates count the
        seconds of steps only, not those of validation and saving."""
        seconds = max(progress.seconds - self._last.seconds, 1e-9)
        rate = (progress.tokens - self._last.tokens) / seconds
        supervised = (progress.supervised_tokens - self._last.supervised_tokens) / seconds
        flops = (progress.flops - self._last.flops) / seconds
        self._last = replace(progress)
        left = (progress.total_steps - progress.step) * progress.seconds / max(progress.step, 1)
        self.say(
            f"step {progress.step}/{progress.total_steps}  loss {sums.loss:.4f}  lr {learning_rate:.2e}  "
            f"grad {gradient_norm:.2f}  {rate:,.0f} tokens/s ({supervised:,.0f} supervised)  "
            f"{memory / 2**30:.1f} GiB  {duration(left)} left"
        )
        curves = sums.scalars("train") | {
            "schedule/learning_rate": learning_rate,
            "schedule/gradient_norm": gradient_norm,
            "throughput/tokens_per_second": rate,
            "throughput/supervised_tokens_per_second": supervised,
            "throughput/share_of_measured_peak": flops / max(self._peak, 1.0),
            "memory/peak_bytes": float(memory),
        }
        self._record(curves, progress.step)

    def validation(self, step: int, sums: Sums, answers: Answers | None) -> None:
        """Says what validation found."""
        right = f"  right answers {answers.right}/{answers.asked}" if answers else ""
        self.say(f"validation at step {step}: loss {sums.loss:.4f}  accuracy {sums.accuracy:.1%}{right}")
        self._record(sums.scalars("validation") | (answers.scalars() if answers else {}), step)
        if answers and (writer := self._writer) is not None:
            self._write(lambda: writer.add_text("validation/answers", answers.text(), step))

    def close(self) -> None:
        """Writes what is still buffered."""
        if (writer := self._writer) is not None:
            self._write(writer.close)

    def _record(self, curves: dict[str, float], step: int) -> None:
        for name, value in curves.items():
            if (writer := self._writer) is not None:
                self._write(partial(writer.add_scalar, name, value, step))

    def _write(self, write: Callable[[], object]) -> None:
        """Curves cost no training: where their disk is full, it goes on without them."""
        try:
            write()
        except OSError as error:
            self._writer = None
            self.say(f"from here on no curves are recorded: {error.filename or 'their folder'}: {error.strerror}")

    def say(self, text: str) -> None:
        """One line on standard error."""
        if not self._silent:
            print(text, file=sys.stderr, flush=True)
