"""Training speed and memory: callama against transformers + peft on the same model, data and rank.

Each side runs in a process of its own, so that peak memory is its own; rounds alternate, so that a
noisy neighbour hits both. In our process the matrix products that such a step cannot do without are timed too: they
alone allow a rate of which ours is a share. Prints tokens/s, peak resident memory and the ratios, and appends the
figures to ``benchmarks/results/train_step.json``.

    python -m benchmarks.train_step [--dtype fp32|bf16] [--rounds 3] [--steps 4]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import record

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "smollm2-135m"
SEQUENCE, SUPERVISED, RANK, DOCUMENTS = 1024, 0.15, 32, 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def batches(count: int, vocab_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids and supervised marks of packed sequences: four documents, each ending in its answer."""
    rng = np.random.default_rng(0)
    length = SEQUENCE // DOCUMENTS
    marks = np.arange(length) >= length * (1 - SUPERVISED)
    return [(rng.integers(100, vocab_size, SEQUENCE), np.tile(marks, DOCUMENTS)) for _ in range(count)]


def ours(dtype: torch.dtype, steps: int) -> tuple[list[float], float]:
    """Seconds of each step, and of the products alone."""
    from benchmarks.products import products
    from callama.data.pack import MicroBatch
    from callama.model.lora import LoRAParams, add_lora
    from callama.train.config import OptimizerSection
    from callama.train.engine import PlainEngine
    from callama.train.loss import supervised_loss
    from callama.weights.native import build_model, read_native

    model = add_lora(build_model(read_native(MODEL), dtype=dtype), LoRAParams(RANK, 1.0)).train()
    engine = PlainEngine(model, OptimizerSection(), 1.0)
    seconds = []
    for ids, marks in batches(steps, model.params.vocab_size):
        began = time.perf_counter()
        targets = torch.from_numpy(np.roll(ids, -1))
        kinds = torch.ones_like(targets)
        documents = [[SEQUENCE // DOCUMENTS]] * DOCUMENTS
        batch = MicroBatch(torch.from_numpy(ids)[None], targets, kinds, torch.from_numpy(marks), documents)
        result = supervised_loss(model, batch)
        engine.backward(result.total, last=True)
        engine.step(1e-3, float(marks.sum()))
        seconds.append(time.perf_counter() - began)
    alone = []
    for _ in range(steps):
        began = time.perf_counter()
        products(model, SEQUENCE, int(marks.sum()))
        alone.append(time.perf_counter() - began)
    return seconds, statistics.median(alone[1:])


def peer(dtype: torch.dtype, steps: int) -> list[float]:
    """Seconds of each step of transformers' Llama with peft's LoRA on all linear layers."""
    import peft
    from transformers import LlamaConfig, LlamaForCausalLM

    params = json.loads((MODEL / "params.json").read_text())
    config = LlamaConfig(
        hidden_size=params["dim"], intermediate_size=1536, num_hidden_layers=params["n_layers"],
        num_attention_heads=params["n_heads"], num_key_value_heads=params["n_kv_heads"],
        vocab_size=params["vocab_size"], rms_norm_eps=params["norm_eps"], tie_word_embeddings=True,
        max_position_embeddings=8192, use_cache=False,
    )  # fmt: skip
    base = LlamaForCausalLM(config).to(dtype)
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=linear, task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, lora).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    seconds = []
    for ids, marks in batches(steps, params["vocab_size"]):
        began = time.perf_counter()
        labels = np.where(np.roll(marks, 1), ids, -100)
        inputs, targets = torch.from_numpy(ids)[None], torch.from_numpy(labels)[None]
        model(input_ids=inputs, labels=targets).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
    return seconds


def child(side: str, dtype: str, steps: int) -> dict[str, float]:
    """Runs one side in this process; the first step warms up and is left out."""
    found: dict[str, float] = {}
    if side == "ours":
        seconds, alone = ours(DTYPES[dtype], steps + 1)
        found["share_of_products"] = alone / statistics.median(seconds[1:])
    else:
        seconds = peer(DTYPES[dtype], steps + 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"tokens_per_second": SEQUENCE / statistics.median(seconds[1:]), "peak_bytes": peak, **found}


def run(side: str, dtype: str, steps: int) -> dict[str, float]:
    """Runs one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train_step", "--child", side, "--dtype", dtype, "--steps", str(steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(dtype: str, rounds: int, steps: int) -> dict[str, Any]:
    """Alternating rounds; medians and ratios."""
    results: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for side in results:
            results[side].append(run(side, dtype, steps))
    median = {side: {key: statistics.median(r[key] for r in of) for key in of[0]} for side, of in results.items()}
    return {
        "dtype": dtype, "sequence_tokens": SEQUENCE, "supervised_share": SUPERVISED,
        "lora_rank": RANK, "documents_per_sequence": DOCUMENTS, "rounds": rounds, "steps_per_round": steps, **median,
        "speed_ratio": median["ours"]["tokens_per_second"] / median["peer"]["tokens_per_second"],
        "memory_ratio": median["ours"]["peak_bytes"] / median["peer"]["peak_bytes"],
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def main() -> None:
    """Parses, measures, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--child", choices=("ours", "peer"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args.dtype, args.steps)))
        return
    result = measure(args.dtype, args.rounds, args.steps)
    for side, label in (("ours", "callama"), ("peer", "transformers + peft")):
        figures = result[side]
        print(f"{label:20} {figures['tokens_per_second']:7.1f} tokens/s  {figures['peak_bytes'] / 2**30:5.2f} GiB peak")
    print(f"{'ratio':20} {result['speed_ratio']:7.2f} x         {result['memory_ratio']:5.2f} x")
    print(f"{result['ours']['share_of_products']:.0%} of the rate that the matrix products alone allow")
    record("train_step", result, ("torch", "transformers", "peft"))


if __name__ == "__main__":
    main()
