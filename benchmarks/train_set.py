"""Training on a set of function-calling conversations: callama beside TRL and the original project.

All sides train the same adapter (rank, layers, constant learning rate, about eight conversations an update) of the
same model for one pass over the same conversations: several turns, prompts with tools, from ``callama synth``. That
they learn from the same tokens is checked, not assumed: each side hands back a digest of all pairs of a token and the
supervised token after it. Each side runs in a process of its own; then one function computes the loss of every
adapter on the same held-out conversations. Prints ratios, appends to ``benchmarks/results/train_set.json``.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install -r benchmarks/train_set_peers.txt
    python -m benchmarks.train_set --peer-python /tmp/peers/bin/python --original ../Llama3-FunctionCalling
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import record
from benchmarks.train_set_peers import Pairs
from benchmarks.train_step import DTYPES, MODEL
from callama.common.errors import CallamaError
from callama.data.build import build
from callama.data.dataset import Dataset
from callama.data.pack import EpochPlans, Sizes, collate, plan
from callama.synth.write import write_sets

HERE = Path(__file__).parent
RANK, MAX_TOKENS, PER_UPDATE, LEARNING_RATE = 32, 1024, 8, 3e-4
LABELS = {
    "callama": "callama",
    "trl": "TRL, defaults",
    "trl_packed": "TRL, packed",
    "original": "original project",
}
TRL_BYTES_PER_ROW = 2.6e9  # resident, of each row of a padded batch: 21 GB were measured at a batch of 8


def prepare(folder: Path, conversations: int, dtype: str) -> dict[str, Any]:
    """Writes the conversations, built for callama and as plain arrays for the others, and the model as a Hugging
    Face folder; returns what every side is told."""
    from callama.weights.convert import convert

    write_sets(folder / "synth", conversations, 0, val_ratio=1 / 8, seed=1)
    build([folder / "synth" / "train.jsonl"], MODEL, folder / "built", max_tokens=MAX_TOKENS)
    train = Dataset(folder / "built" / "train.arrow")
    rows = [train[i] for i in range(len(train))]
    assert not any(row.cut_tokens for row in rows), "a conversation was cut; raise MAX_TOKENS"
    np.savez(
        folder / "train.npz",
        ids=np.concatenate([row.input_ids for row in rows]),
        supervised=np.concatenate([row.supervised for row in rows]),
        lengths=train.lengths,
    )
    convert(MODEL, folder / "hf", "hf", dtype=dtype)
    return {
        "folder": str(folder), "model": str(MODEL), "dtype": dtype, "rank": RANK, "max_tokens": MAX_TOKENS,
        "learning_rate": LEARNING_RATE, "per_update": PER_UPDATE, "mean_tokens": float(train.lengths.mean()),
    }  # fmt: skip


def ours(told: dict[str, Any]) -> dict[str, Any]:
    """Trains with callama's own loop; the pairs are those of the micro-batches that it plans."""
    from callama.train.config import load_config
    from callama.train.loop import train

    folder = Path(told["folder"])
    data = Dataset(folder / "built" / "train.arrow")
    updates = math.ceil(len(data) / PER_UPDATE)
    # As many updates as TRL makes of its batches of eight: one micro-batch each, as wide as that takes.
    budget = next(n for n in itertools.count(MAX_TOKENS, 16) if len(EpochPlans(Sizes.of(data), 3, n)[0]) <= updates)
    batches = EpochPlans(Sizes.of(data), 3, budget)[0]
    values = {
        "model_ckpt_file": str(MODEL / "consolidated.pth"), "seed": 3, "dtype": told["dtype"],
        "model_config": {"max_seq_len": budget}, "lora_config": {"lora_rank": RANK},
        "scheduler": {"min_lr": LEARNING_RATE, "max_lr": LEARNING_RATE, "warmup_num_steps": 0},
        "checkpoint": {"output_path": str(folder), "job_name": "callama", "save_interval": 10**9},
        "tensorboard": {"enabled": False}, "validation": {"enabled": False}, "steps_per_print": 1,
        "train": {
            "dataset_sources": [str(data.path)], "num_epochs": 1, "micro_batch_size": 1, "gradient_clipping": 1.0,
            "gradient_accumulation_steps": 1,
        },
    }  # fmt: skip
    (folder / "callama.json").write_text(json.dumps(values))
    result = train(load_config(folder / "callama.json"))
    pairs = Pairs()
    for indices in batches:
        batch = collate(data, indices)
        pairs.add(batch.inputs[0][batch.supervised].numpy(), batch.targets[batch.supervised].numpy())
    assert pairs.count == result["supervised_tokens"], (pairs.count, result["supervised_tokens"])
    return {
        "seconds": result["seconds"], "steps": result["step"], "peak_bytes": result["peak_memory_bytes"],
        "adapter": result["checkpoint"], **pairs.report(),
    }  # fmt: skip


@torch.no_grad()
def validation_losses(folder: Path, dtype: str, adapters: dict[str, str]) -> dict[str, float]:
    """The mean loss of each adapter, and of the base, on the supervised tokens of the held-out conversations."""
    from callama.model.lora import add_lora
    from callama.train.loss import supervised_loss
    from callama.weights.adapter import load_adapter, read_adapter
    from callama.weights.native import build_model, read_native

    data = Dataset(folder / "built" / "validation.arrow")
    batches = plan(Sizes.of(data), range(len(data)), MAX_TOKENS)
    losses = {}
    for side, path in {"base": "", **adapters}.items():
        model = build_model(read_native(MODEL), dtype=DTYPES[dtype])
        if path:
            adapter = read_adapter(Path(path), model.params)
            add_lora(model, adapter.lora)
            load_adapter(model, adapter)
        done = [supervised_loss(model.eval(), collate(data, indices)).losses for indices in batches]
        losses[side] = float(torch.cat(done).double().mean())
    return losses


def require_room(needed: float) -> None:
    """Refuses what the free memory cannot hold, before it takes the machine down."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    if free < needed:
        raise CallamaError(
            f"TRL at its defaults may take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: end other programs, "
            "or choose a smaller --trl-batch or other --sides (both are written into the results)"
        )


def in_process(command: list[str], told: dict[str, Any]) -> dict[str, Any]:
    """The JSON object that a command prints last, told what to do in its last argument."""
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, json.dumps(told)], stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise CallamaError(f"{' '.join(command)} ended with status {done.returncode}; what it said stands above")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs every side, checks that all learned from the same tokens, and validates."""
    told = prepare(folder, args.conversations, args.dtype)
    told |= {"trl_batch": args.trl_batch, "original": str(args.original.resolve()) if args.original else ""}
    runs: dict[str, dict[str, Any]] = {}
    tokens = int(Dataset(folder / "built" / "train.arrow").lengths.sum())
    for side in args.sides:
        own = [sys.executable, "-m", "benchmarks.train_set", "--child"]
        command = own if side == "callama" else [str(args.peer_python), str(HERE / "train_set_peers.py")]
        run = in_process(command, told | {"side": side})
        run["tokens_per_second"] = tokens / run["seconds"]
        run["supervised_tokens_per_second"] = run["supervised_tokens"] / run["seconds"]
        runs[side] = run
        rates = f"{run['supervised_tokens_per_second']:7.1f} supervised/s {run['tokens_per_second']:7.1f} tokens/s"
        rest = f"{run['peak_bytes'] / 1e9:5.2f} GB  {run['steps']} updates, {run['seconds']:.0f} s"
        print(f"{LABELS[side]:18} {rates}  {rest}", flush=True)
    first = runs[args.sides[0]]
    for side, run in runs.items():
        same = all(run[key] == first[key] for key in ("supervised_tokens", "pairs_sha256"))
        assert same, f"{side} did not learn from the tokens that {args.sides[0]} learned from: {run}, {first}"
    adapters = {side: run.pop("adapter") for side, run in runs.items()}
    losses = in_process(
        [sys.executable, "-m", "benchmarks.train_set", "--child"], told | {"side": "validation", "adapters": adapters}
    )
    return {
        "conversations": len(Dataset(folder / "built" / "train.arrow")), "tokens": tokens,
        "held_out_conversations": len(Dataset(folder / "built" / "validation.arrow")),
        "supervised_tokens": first["supervised_tokens"], "trl_batch": args.trl_batch, "runs": runs,
        "validation_loss": losses,
    }  # fmt: skip


def show_ratios(result: dict[str, Any]) -> None:
    """Ours beside each other side."""
    runs, losses = result["runs"], result["validation_loss"]
    print(f"held-out loss of the base: {losses['base']:.4f}")
    for side in runs:
        print(f"held-out loss of {LABELS[side]}: {losses[side]:.4f}")
    for side in [side for side in runs if side != "callama" and "callama" in runs]:
        own, other = runs["callama"], runs[side]
        speed, memory = other["seconds"] / own["seconds"], own["peak_bytes"] / other["peak_bytes"]
        print(f"callama / {LABELS[side]}: {speed:.2f} x the rate, {memory:.2f} x the memory")


def main() -> None:
    """Parses, measures, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="a Python that has train_set_peers.txt installed")
    parser.add_argument("--original", type=Path, help="a checkout of the original project")
    parser.add_argument("--sides", nargs="+", choices=LABELS, default=["callama", "trl", "trl_packed", "original"])
    parser.add_argument("--conversations", type=int, default=256, help="one in eight of them is held out")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--trl-batch", type=int, default=8, help="8 is TRL's default")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        told = json.loads(args.child)
        if told["side"] == "callama":
            print(json.dumps(ours(told)))
        else:
            print(json.dumps(validation_losses(Path(told["folder"]), told["dtype"], told["adapters"])))
        return
    if set(args.sides) - {"callama"} and args.peer_python is None:
        parser.error("the other sides need --peer-python; see train_set_peers.txt")
    if "original" in args.sides and args.original is None:
        parser.error("--sides original needs --original")
    try:
        if "trl" in args.sides:
            require_room(args.trl_batch * TRL_BYTES_PER_ROW)
        with tempfile.TemporaryDirectory() as place:
            result = measure(args, Path(place))
    except CallamaError as error:
        sys.exit(f"error: {error}")
    show_ratios(result)
    told = {"dtype": args.dtype, "lora_rank": RANK, **result, "threads": torch.get_num_threads()}
    record("train_set", told, ("torch",))


if __name__ == "__main__":
    main()
