"""What the breadth of the catalogue and the renaming of tools are worth: models trained on equally many tokens.

Four times the same recipe on the embedded model, on the starter set (the domains and scenarios that the catalogue
began with) or on all there is, with tools disguised (other names, other order, fewer comments) or as they are written.
Every model answers the same cases about held-out tools, and the first cases of four BFCL categories, scored by BFCL's
own checker. What is compared is the rate of right turns. Appends to ``benchmarks/results/ablation.json``.

    python -m benchmarks.ablation [--tokens 250000] [--cases 100] [--group 6] [--arm full_renamed] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.record import record
from callama.common.errors import CallamaError
from callama.contract.messages import Conversation
from callama.data.example import example_of
from callama.synth import engine, write
from callama.synth.catalogue import FOLDER, load_catalogue
from callama.synth.disguise import as_written
from callama.synth.scenarios import DEFAULT_WEIGHTS
from callama.synth.write import HELD_OUT, TRAIN
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "smollm2-135m"
# What the catalogue's training side began with, and the scenarios with their weights.
STARTER = {
    "business", "calendar", "developer", "events", "files", "finance", "health", "kitchen", "language", "library",
    "maths", "messaging", "music", "pets", "restaurants", "shopping", "smart_home", "tasks", "travel", "vehicles",
    "weather",
}  # fmt: skip
STARTER_WEIGHTS = {
    "single": 18, "choice": 21, "parallel_same": 14, "parallel_different": 12, "missing_argument": 12, "decline": 9,
    "answer_from_result": 5, "plain_chat": 4, "follow_up": 5,
}  # fmt: skip
# Lists of tools that fill what the small model reads at once.
WEIGHTS = {**DEFAULT_WEIGHTS, "long_list": 0}
ARMS = {
    f"{breadth}_{names}": (breadth == "starter", names == "renamed")
    for breadth in ("starter", "full")
    for names in ("renamed", "as_written")
}
BFCL = ("simple_python", "multiple", "parallel", "irrelevance")
MAX_TOKENS = 1024


def callama(*args: str | Path) -> None:
    """One command of callama.

    Raises:
        SystemExit: it failed.
    """
    code = "from callama.cli.main import main; main()"
    if subprocess.run([sys.executable, "-c", code, *map(str, args)], cwd=ROOT, check=False).returncode:
        sys.exit(f"callama {args[0]} failed")


def starter_catalogue(folder: Path) -> Path:
    """A catalogue whose training side is the starter domains alone."""
    folder.mkdir()
    for file in FOLDER.glob("*.json"):
        if file.stem in STARTER or json.loads(file.read_text(encoding="utf-8")).get("side") != "train":
            shutil.copy(file, folder)
    return folder


def training_set(
    out: Path, catalogue: Path, weights: Mapping[str, float], renamed: bool, args: argparse.Namespace
) -> dict[str, int]:
    """Writes conversations of ``--tokens`` tokens in all, and a twentieth as many to validate on."""
    made, tokens = out.with_name("made"), args.tokens
    dress, sizes = engine.dress, engine.GROUP_SIZE
    if not renamed:
        engine.dress = lambda spec, used, taken, rng: as_written(spec)  # type: ignore[attr-defined]
    engine.GROUP_SIZE = write.GROUP_SIZE = {**sizes, "train": args.group}
    try:
        # One worker: what was replaced above is replaced in this process only.
        write.write_sets(
            made, tokens // 100 + 60, 0, val_ratio=0.05, seed=1, scenarios=list(weights), weights=weights,
            folder=catalogue,
        )  # fmt: skip
    finally:
        engine.dress, engine.GROUP_SIZE, write.GROUP_SIZE = dress, sizes, sizes  # type: ignore[attr-defined]
    renderer = Renderer(load_tokenizer(MODEL))
    left = {"train": tokens, "validation": tokens // 20}
    counts = dict.fromkeys(left, 0)
    with (made / TRAIN).open(encoding="utf-8") as lines, out.open("w", encoding="utf-8") as file:
        for line in lines:
            conversation = Conversation.from_dict(json.loads(line))
            split = str(conversation.labels["split"])
            if left[split] > 0:
                try:
                    left[split] -= len(example_of(conversation, renderer, "all", MAX_TOKENS).input_ids)
                except CallamaError:  # too long, and not to be cut soundly: build drops it too
                    continue
                counts[split] += 1
                file.write(line)
    if left["train"] > 0:
        sys.exit(f"{left['train']:,} tokens are missing")
    shutil.rmtree(made)
    return counts


def arm(
    folder: Path, catalogue: Path, weights: Mapping[str, float], renamed: bool, args: argparse.Namespace, held_out: Path
) -> dict[str, Any]:
    """Trains one model and evaluates it."""
    folder.mkdir()
    counts = training_set(folder / TRAIN, catalogue, weights, renamed, args)
    built, merged, report = folder / "built", folder / "merged", folder / "report.json"
    callama("build", folder / TRAIN, "--tokenizer", MODEL, "--max-tokens", str(MAX_TOKENS), "--out", built)
    callama(
        "train", ROOT / "configs" / "demo.json", "--fresh", "train.max_minutes=null", "validation.interval=1000000",
        f"train.dataset_sources=[{json.dumps(str(built / 'train.arrow'))}]",
        f"validation.dataset_sources=[{json.dumps(str(built / 'validation.arrow'))}]",
        f"checkpoint.output_path={folder}", f"tensorboard.output_path={folder / 'logs'}",
    )  # fmt: skip
    callama("merge", MODEL, folder / "demo", merged)
    suites = [*(f"--suite=bfcl:{category}" for category in BFCL), "--bfcl", args.bfcl]
    callama("evaluate", held_out, "--model", merged, "--out", report, "--examples", "0")
    limited = folder / "bfcl.json"
    callama("evaluate", *suites, "--model", merged, "--out", limited, "--limit", str(args.cases), "--examples", "0")
    figures = json.loads(report.read_text())["tuned"]
    scores = {name: figures[name] for name in ("right_turn", "exact_call")}
    outside = json.loads(limited.read_text())["suites"]
    right = {name: found["tuned"]["right_turn"] for name, found in outside.items()}
    return {**counts, "held_out": scores, "bfcl": right}


def main() -> None:
    """Trains and evaluates arm by arm, prints, records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=250_000, help="of training conversations, for each model")
    parser.add_argument(
        "--group", type=int, default=engine.GROUP_SIZE["train"], help="training conversations to a set of tools"
    )
    parser.add_argument("--cases", type=int, default=100, help="of each BFCL category")
    parser.add_argument("--bfcl", type=Path, default=ROOT / ".cache" / "bfcl", help="where `callama pull bfcl` put it")
    parser.add_argument("--arm", choices=ARMS, action="append", help="only these (repeat the option)")
    parser.add_argument("--keep", type=Path, help="a new folder in which data, models and answers stay")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ablation-")))
        folder.mkdir(exist_ok=not args.keep)
        write.write_sets(folder / "test", 1, 240, val_ratio=0, seed=1, weights=WEIGHTS)
        starter, held_out = starter_catalogue(folder / "catalogue"), folder / "test" / HELD_OUT
        for name in args.arm or ARMS:
            small, renamed = ARMS[name]
            catalogue = starter if small else FOLDER
            found[name] = {
                "tools": len(load_catalogue(catalogue).side("train")),
                **arm(folder / name, catalogue, STARTER_WEIGHTS if small else WEIGHTS, renamed, args, held_out),
            }
            print(name, json.dumps(found[name]), flush=True)
    told = {"tokens": args.tokens, "group": args.group, "bfcl_cases": args.cases}
    record("ablation", {**told, "arms": found}, ("torch",))


if __name__ == "__main__":
    main()
