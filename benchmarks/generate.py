"""Generation on the embedded model: callama beside ``transformers`` and llama.cpp, constrained beside free.

The first 64 cases of a suite of conversations, greedy, at equal batch, as many threads as the environment
says, prompts of equal ids. ``transformers`` gets the same weights in the same dtype, its prompts padded on the
left. Rates count new tokens up to the stop token. ``per_sampled_seconds`` leaves out the reading of prompts (timed
by a run of one token) and counts no forced tokens. llama.cpp (npm's node-llama-cpp, prebuilt) gets the weights as
GGUF in the same dtype and one prompt at a time, as callama does beside it; each writes ``--tokens`` ids, stop or
not, and its rate is that of all ids after the first. Appends to ``benchmarks/results/generate.json``. Run from the
repository's root.

    python -m benchmarks.generate SUITE [--model models/smollm2-135m] [--cases 64] [--batch 16] [--tokens 96]
        [--single 8]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import record
from callama.contract.grammar import Choice
from callama.contract.messages import Conversation
from callama.evaluate.suites import load_file
from callama.generate.chat import ChatModel
from callama.generate.engine import Generator
from callama.weights.convert import convert
from tests.fetch import node_llama_cpp_dir

SCRIPT = Path(__file__).with_name("llama_cpp.mjs")
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def ours(model: ChatModel, conversations: list[Conversation], tokens: int, choice: Choice | None) -> dict[str, Any]:
    """Seconds and tokens of one run, after a short one that loads and compiles."""
    model.generate(conversations[:2], 4, choice=choice)
    model.forget()
    began = time.perf_counter()
    model.generate(conversations, 1, choice=choice)
    prompt_seconds = time.perf_counter() - began
    model.forget()
    began, cpu = time.perf_counter(), time.process_time()
    done = model.generate(conversations, tokens, choice=choice)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    new, forced = sum(len(g.ids) for g in done), sum(g.forced for g in done)
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "tokens": new, "forced_tokens": forced,
        "prompt_seconds": prompt_seconds,
        "tokens_per_second": new / seconds, "per_sampled_seconds": (seconds - prompt_seconds) / (new - forced),
        "stopped": sum(g.stopped for g in done), "ids": [g.ids for g in done],
    }  # fmt: skip


def theirs(folder: Path, model: ChatModel, prompts: list[list[int]], batch: int, tokens: int) -> dict[str, Any]:
    """The same prompts through ``transformers``' generate, in batches of the same size and order."""
    from transformers import LlamaForCausalLM

    dtype = model.model.tok_embeddings.weight.dtype
    with tempfile.TemporaryDirectory() as temporary:
        convert(folder, Path(temporary) / "hf", "hf")
        peer = LlamaForCausalLM.from_pretrained(Path(temporary) / "hf", dtype=dtype).eval()
    stops = sorted(model.renderer.stop_ids)

    def run(some: list[list[int]], count: int) -> list[list[int]]:
        width = max(map(len, some))
        ids = torch.tensor([[stops[0]] * (width - len(p)) + p for p in some])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in some])
        made = peer.generate(
            ids, attention_mask=mask, max_new_tokens=count, do_sample=False, eos_token_id=stops, pad_token_id=stops[0]
        )
        rows = made[:, width:].tolist()
        return [row[: next((i for i, t in enumerate(row) if t in stops), len(row))] for row in rows]

    run(prompts[:2], 4)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    out: list[list[int]] = [[] for _ in prompts]
    began, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(order), batch):
        group = order[start : start + batch]
        for index, row in zip(group, run([prompts[i] for i in group], tokens), strict=True):
            out[index] = row
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    new = sum(map(len, out))
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "tokens": new, "tokens_per_second": new / seconds, "ids": out
    }  # fmt: skip


def single_stream(folder: Path, model: ChatModel, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """One prompt at a time: ids a second after the first, and seconds to the first, here and in llama.cpp."""
    alone = Generator(model.model, frozenset(), 1)
    alone.generate(prompts[:1], 4)
    first = whole = 0.0
    ids = []
    for prompt in prompts:
        began = time.perf_counter()
        alone.generate([prompt], 1)
        middle = time.perf_counter()
        ids.append(alone.generate([prompt], tokens)[0].ids)
        first, whole = first + middle - began, whole + time.perf_counter() - middle
    modules = node_llama_cpp_dir()
    # node finds packages beside the script that asks for them.
    shutil.copy(SCRIPT, script := modules.parent / SCRIPT.name)
    asked = json.dumps({"prompts": prompts, "tokens": tokens, "threads": torch.get_num_threads()})
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "model.gguf"
        convert(folder, file, "gguf", dtype=DTYPES[model.model.tok_embeddings.weight.dtype])
        done = subprocess.run(["node", str(script), str(file)], input=asked, capture_output=True, text=True, check=True)
    runs = json.loads(done.stdout.splitlines()[-1])
    later = len(prompts) * (tokens - 1)
    peer_first, peer_whole = sum(run["first_seconds"] for run in runs), sum(run["seconds"] for run in runs)
    return {
        "prompts": len(prompts), "tokens_per_second": later / (whole - first), "first_seconds": first / len(prompts),
        "llama_cpp_tokens_per_second": later / (peer_whole - peer_first),
        "llama_cpp_first_seconds": peer_first / len(prompts),
        "equal_ids": sum(a == run["ids"] for a, run in zip(ids, runs, strict=True)),
    }  # fmt: skip


def main() -> None:
    """Parses, measures, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--single", type=int, default=8, help="prompts for the single stream beside llama.cpp")
    args = parser.parse_args()
    conversations = [case.prompt for case in load_file(args.suite).cases[: args.cases]]
    model = ChatModel(args.model, slots=args.batch)
    prompts = [model.renderer.prompt(c) for c in conversations]
    runs: dict[str, dict[str, Any]] = {"transformers": theirs(args.model, model, prompts, args.batch, args.tokens)}
    runs["free"] = ours(model, conversations, args.tokens, None)
    runs["constrained"] = ours(model, conversations, args.tokens, Choice())
    runs["required"] = ours(model, conversations, args.tokens, Choice(required=True))
    peer, free = runs["transformers"], runs["free"]
    equal = sum(a == b for a, b in zip(peer["ids"], free["ids"], strict=True))
    for name, run in runs.items():
        del run["ids"]
        sampled = f"  {run['per_sampled_seconds'] * 1000:6.1f} ms a sampled token" if "forced_tokens" in run else ""
        print(f"{name:13}{run['tokens']:6} tokens  {run['seconds']:7.1f} s  {run['tokens_per_second']:7.1f}/s{sampled}")
    ratio = free["tokens_per_second"] / peer["tokens_per_second"]
    per_sampled = runs["constrained"]["per_sampled_seconds"] / free["per_sampled_seconds"]
    print(f"free beside transformers: {ratio:.2f} times the rate; {equal} of {len(prompts)} answers with equal ids")
    total = runs["constrained"]["seconds"] / free["seconds"]
    print(f"constrained beside free: {per_sampled:.3f} of the time a sampled token, {total:.3f} of the time in total")
    alone = single_stream(args.model, model, prompts[: args.single], args.tokens)
    beside = alone["tokens_per_second"] / alone["llama_cpp_tokens_per_second"]
    print(f"one stream: {alone['tokens_per_second']:.1f}/s, llama.cpp {alone['llama_cpp_tokens_per_second']:.1f}/s: "
          f"{beside:.2f} times; {alone['equal_ids']} of {alone['prompts']} with equal ids")  # fmt: skip
    result = {
        "model": args.model.name, "suite": args.suite.name, "cases": len(prompts),
        "prompt_tokens": sum(map(len, prompts)), "batch": args.batch, "max_new_tokens": args.tokens,
        "dtype": str(model.model.tok_embeddings.weight.dtype).removeprefix("torch."), "runs": runs,
        "free_over_transformers": ratio, "equal_answers": equal, "constrained_per_sampled": per_sampled,
        "constrained_in_total": total, "single_stream": alone, "single_over_llama_cpp": beside,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    record("generate", result, ("torch", "transformers", "llguidance"))


if __name__ == "__main__":
    main()
