"""The other sides of ``train_set.py``, run by the Python that has them installed; imports nothing of callama.

Reads the conversations as arrays of ids and marks, trains one pass, saves the adapter, and prints one JSON object:
seconds, updates, peak resident memory, the adapter's place, and the digest of what was learned from.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Pairs:
    """Collects (token, supervised token after it). The digest depends on which pairs there were and how often each,
    not on their order: one side shuffles, another packs."""

    def __init__(self) -> None:
        self._keys: list[np.ndarray] = []

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Pairs of ids, (n,) each."""
        self._keys.append(before.astype(np.int64) << 32 | after.astype(np.int64))

    def add_labels(self, ids: torch.Tensor, labels: torch.Tensor) -> None:
        """Rows (b, s) with labels in Hugging Face's convention: each at its own token, -100 where there is none."""
        chosen = labels[:, 1:] != -100
        self.add(ids[:, :-1][chosen].numpy(), labels[:, 1:][chosen].numpy())

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(map(len, self._keys))

    def report(self) -> dict[str, Any]:
        """The number of supervised tokens and the digest."""
        every = np.sort(np.concatenate(self._keys))
        return {"supervised_tokens": self.count, "pairs_sha256": hashlib.sha256(every.tobytes()).hexdigest()}


def conversations(told: dict[str, Any]) -> list[tuple[list[int], list[bool]]]:
    """Ids and supervised marks of each."""
    arrays = np.load(Path(told["folder"]) / "train.npz")
    ends = np.cumsum(arrays["lengths"])[:-1]
    parts = zip(np.split(arrays["ids"], ends), np.split(arrays["supervised"], ends), strict=True)
    return [(ids.tolist(), marks.tolist()) for ids, marks in parts]


def trl(told: dict[str, Any], pairs: Pairs) -> dict[str, Any]:
    """SFTTrainer at its defaults, or packing without checkpointing, the fastest that it has on a CPU. Only what all
    sides must have in common is set beside that: adapter, learning rate, one pass, about as many conversations an
    update. With ``labels`` in the data set it learns from exactly the marked tokens."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    packed = told["side"] == "trl_packed"
    out = Path(told["folder"]) / told["side"]
    best = {
        "packing": True, "per_device_train_batch_size": 1, "gradient_checkpointing": False,
        "gradient_accumulation_steps": max(1, round(told["per_update"] * told["mean_tokens"] / told["max_tokens"])),
    }  # fmt: skip
    config = SFTConfig(
        output_dir=str(out), num_train_epochs=1, learning_rate=told["learning_rate"], lr_scheduler_type="constant",
        max_length=told["max_tokens"], use_cpu=True, bf16=told["dtype"] == "bf16", save_strategy="no", report_to="none",
        disable_tqdm=True, **(best if packed else {"per_device_train_batch_size": told["trl_batch"]}),
    )  # fmt: skip
    rows = [
        {"input_ids": ids, "labels": [i if mark else -100 for i, mark in zip(ids, marks, strict=True)]}
        for ids, marks in conversations(told)
    ]
    lora = LoraConfig(r=told["rank"], lora_alpha=told["rank"], target_modules=LINEAR, task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        str(Path(told["folder"]) / "hf"), args=config, train_dataset=Dataset.from_list(rows), peft_config=lora
    )
    collator, clock = trainer.data_collator, {}

    def noting(features: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collator(features)
        pairs.add_labels(batch["input_ids"], batch["labels"])
        return batch

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **rest: Any) -> None:
            clock["began"] = time.perf_counter()

        def on_train_end(self, *args: Any, **rest: Any) -> None:
            clock["ended"] = time.perf_counter()

    trainer.data_collator = noting
    trainer.add_callback(Clock())
    trainer.train()
    peak = peak_bytes()
    trainer.save_model(str(out))
    return {
        "seconds": clock["ended"] - clock["began"], "steps": trainer.state.global_step, "peak_bytes": peak,
        "adapter": str(out),
    }  # fmt: skip


def original(told: dict[str, Any], pairs: Pairs) -> dict[str, Any]:
    """The original's model, adapter, collation, loss, metrics, optimizer and schedule, in the order of its
    ``finetune.py``, which itself refuses to run without CUDA. Its batch of two rows, recomputation on."""
    from functools import partial

    sys.path.insert(0, told["original"])
    from llama3.core.dataset import custom_collate_fn
    from llama3.core.evaluation import compute_evaluation_metrics, masked_cross_entropy_loss
    from llama3.core.lora import get_lora_state_dict
    from llama3.core.schedule import CosineDecayWithWarmupLRScheduler
    from llama3.utils.train_helper import create_lora_model_and_load_checkpoint, create_optimizer
    from torch.utils.checkpoint import checkpoint

    out = Path(told["folder"]) / "original"
    out.mkdir()
    model_folder = Path(told["model"])
    params = json.loads((model_folder / "params.json").read_text())
    state = torch.load(model_folder / "consolidated.pth", weights_only=True, mmap=True)
    torch.save({"output.weight": state["tok_embeddings.weight"], **state}, out / "untied.pth")
    del state
    rate = told["learning_rate"]
    lora = {
        "lora_rank": told["rank"], "lora_scaling": 1.0, "lora_dropout": 0.0, "train_bias": "none",
        "train_embedding": False, "train_qv_only": False,
    }  # fmt: skip
    settings = {**params, "max_seq_len": told["max_tokens"], "use_cache": False}
    model = create_lora_model_and_load_checkpoint(settings, lora, str(out / "untied.pth"))
    model.enable_activation_checkpointing(partial(checkpoint, use_reentrant=False))
    model = model.to(DTYPES[told["dtype"]]).train()
    optimizer = create_optimizer(model, rate, 1e-8, 0.0, (0.9, 0.999), fused=True)
    schedule = CosineDecayWithWarmupLRScheduler(optimizer, rate, rate, rate, 0, 10**9)
    rows = [
        {
            "inputs": torch.tensor(ids[:-1]),
            "labels": torch.tensor(ids[1:]),
            "loss_mask": torch.tensor(marks[1:]),
        }
        for ids, marks in conversations(told)
    ]
    order, micro = torch.randperm(len(rows), generator=torch.Generator().manual_seed(3)).tolist(), 2
    groups = [order[start : start + micro] for start in range(0, len(order), micro)]
    accumulate, steps, began = max(1, told["per_update"] // micro), 0, time.perf_counter()
    for number, group in enumerate(groups, 1):
        batch = custom_collate_fn([rows[i] for i in group], pad_id=0, max_seq_len=told["max_tokens"])
        outputs = model(batch["inputs"])
        marked = {"labels": batch["labels"], "loss_mask": batch["loss_mask"]}
        loss = masked_cross_entropy_loss(logits=outputs, **marked)
        (loss / accumulate).backward()
        compute_evaluation_metrics(loss=loss, logits=outputs, **marked, prefix="Train/")
        pairs.add(batch["inputs"][batch["loss_mask"]].numpy(), batch["labels"][batch["loss_mask"]].numpy())
        if number % accumulate == 0 or number == len(groups):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            steps += 1
    seconds, peak = time.perf_counter() - began, peak_bytes()
    torch.save(get_lora_state_dict(model.state_dict(), train_bias="none"), out / "lora_state.pth")
    (out / "lora.json").write_text(json.dumps(lora))
    return {"seconds": seconds, "steps": steps, "peak_bytes": peak, "adapter": str(out / "lora_state.pth")}


def peak_bytes() -> int:
    """This process's peak of resident memory; kilobytes are Linux's unit."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Runs the side that the last argument names and prints what it gave."""
    told = json.loads(sys.argv[1])
    torch.manual_seed(3)
    pairs = Pairs()
    run = {"trl": trl, "trl_packed": trl, "original": original}[told["side"]](told, pairs)
    packages = {"original": ["torch"]}.get(told["side"], ["torch", "trl", "transformers", "peft"])
    print(json.dumps({**run, **pairs.report(), "versions": {name: version(name) for name in packages}}))


if __name__ == "__main__":
    main()
