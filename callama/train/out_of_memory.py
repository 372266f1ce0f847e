"""Memory that does not suffice: how to tell, and what to say to the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from callama.common.errors import UsageError
from callama.model.device import choose_device, choose_dtype, multiplies_bf16
from callama.train.config import TrainConfig, is_offloaded

SHORTER = "model_config.max_seq_len="
VALIDATING = "while validating"  # a note on an error
_NOTES = {
    "train.micro_batch_size": "{} (about the same steps in less memory)",
    "train.recompute": "{} (the same gradients, more slowly)",
}


def computed_in(config: TrainConfig, device: str) -> torch.dtype:
    """What ``dtype`` stands for on a device, which need not be here: a GPU elsewhere is taken for a new one."""
    auto_elsewhere = config.dtype == "auto" and _is_elsewhere(device)
    return torch.bfloat16 if auto_elsewhere else choose_dtype(config.dtype, torch.device(device))


def _is_elsewhere(device: str) -> bool:
    return device == "cuda" and not torch.cuda.is_available()


def less_memory(config: TrainConfig, device: str) -> Iterator[tuple[str, TrainConfig]]:
    """Settings that lower the memory, as they can be given to this run, each on top of those before it; the gentlest
    first, and none that is refused."""
    tried: set[str] = set()
    while change := next((change for change in _changes(config, device) if change not in tried), None):
        tried.add(change)
        changed = config.changed(*change.split())
        try:
            changed.require_possible()
        except UsageError:
            continue
        config = changed
        yield change, config


def _changes(config: TrainConfig, device: str) -> Iterator[str]:
    """Those that are not in force yet."""
    train, zero = config.train, config.zero
    if train.micro_batch_size > 1:
        more = train.gradient_accumulation_steps * train.micro_batch_size
        yield f"train.micro_batch_size=1 train.gradient_accumulation_steps={more}"
    if not train.recompute:
        yield "train.recompute=true"
    offloads = zero is not None and device != "cpu"  # there main memory is the device's own
    if zero is not None and offloads and not is_offloaded(zero.offload_optimizer):
        yield "zero_optimization.offload_optimizer.device=cpu"
    takes_bf16 = device == "cpu" or _is_elsewhere(device) or multiplies_bf16(torch.device(device))
    if takes_bf16 and computed_in(config, device) == torch.float32:
        yield "dtype=bf16"
    if zero is not None and zero.stage < 3:
        yield "zero_optimization.stage=3"
    if zero is not None and offloads and zero.stage == 3 and not is_offloaded(zero.offload_param):
        yield "zero_optimization.offload_param.device=cpu"
    if config.method == "full":
        yield "method=lora"
    if config.method == "lora":
        yield "method=qlora"
    if (length := config.model.max_seq_len // 2) >= 256:
        yield f"{SHORTER}{length}"


@contextmanager
def noted_as_validating() -> Iterator[None]:
    """Errors of the block know that they came while validating, where other settings take less."""
    try:
        yield
    except Exception as error:
        error.add_note(VALIDATING)
        raise


def what_takes_less(config: TrainConfig) -> str:
    """The settings that lower a run's memory, the one that changes the result least first."""
    device = choose_device("auto").type if config.place == "auto" else config.place
    changes = [change for change, _ in less_memory(config, device) if not change.startswith(SHORTER)]
    advice = [_NOTES.get(change.partition("=")[0], "{}").format(change.replace(" ", " with ")) for change in changes]
    advice.append(f"a model_config.max_seq_len below {config.model.max_seq_len}, and build with --max-tokens to match")
    more = f"; or, if that is not enough, {', '.join(advice[1:])}" if advice[1:] else ""
    return config.spelled(f"set {advice[0]}{more}")


def what_validates_in_less(config: TrainConfig) -> str:
    """The settings that lower the memory of a validation, none of which changes what is learned."""
    found = config.validation
    has = {"batch_size=1": found.batch_size > 1, "questions=0": found.questions > 0 and found.best_by == "loss"}
    changes = [f"validation.{change}" for change, can_change in has.items() if can_change]
    return config.spelled("set " + " and, if that is not enough, ".join(changes or ["validation.enabled=false"]))
