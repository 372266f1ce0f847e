"""The pipeline's verbs in their order, as one program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama import __version__
from callama.cli.augment import augment
from callama.cli.build import build
from callama.cli.chat import chat
from callama.cli.check import check
from callama.cli.clean import clean
from callama.cli.compare import compare
from callama.cli.consolidate import consolidate
from callama.cli.convert import convert
from callama.cli.estimate import estimate
from callama.cli.evaluate import evaluate
from callama.cli.inspect import inspect
from callama.cli.merge import merge
from callama.cli.pull import pull
from callama.cli.synth import synth
from callama.cli.train import train
from callama.cli.verify import verify

PIPELINE = (
    ("pull", "callama pull smollm2-135m", "models/*/params.json"),
    ("synth", "callama synth --out datasets/demo", "datasets/*/train.jsonl"),
    ("clean", "callama clean RAW.json --out datasets/clean.jsonl", "datasets/*.report.json"),
    ("augment", "callama augment datasets/clean.jsonl --out datasets/augmented.jsonl", ""),
    ("build", "callama build datasets/demo/train.jsonl --tokenizer models/smollm2-135m --out datasets/demo-built",
     "datasets/**/metadata.json"),
    ("check", "callama check datasets/demo/train.jsonl datasets/demo-built --tokenizer models/smollm2-135m", ""),
    ("inspect", "callama inspect datasets/demo-built --html datasets/demo-built.html", "datasets/*.html"),
    ("estimate", "callama estimate configs/demo.json", ""),
    ("train", "callama train configs/demo.json", "checkpoints/*/latest"),
    ("consolidate", "callama consolidate checkpoints/ds_llama3_fc checkpoints/converted_lora_state", ""),
    ("merge", "callama merge models/smollm2-135m checkpoints/demo checkpoints/demo-merged",
     "checkpoints/*/consolidated.pth"),
    ("verify", "callama verify checkpoints/demo-merged", ""),
    ("evaluate", "callama evaluate datasets/demo/held_out.jsonl --model checkpoints/demo-merged "
     "--base models/smollm2-135m --out checkpoints/demo-report.json", "checkpoints/*.json"),
    ("compare", "callama compare checkpoints/demo-report.json --html checkpoints/demo-report.html",
     "checkpoints/*.html"),
    ("chat", "callama chat checkpoints/demo-merged", ""),
    ("convert", "callama convert checkpoints/demo-merged exports/demo-hf --to hf", "exports/*/MANIFEST.json"),
)  # fmt: skip

app = typer.Typer(
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune Llama 3 models for function calling, from raw data to a measured proof.",
    epilog="Examples, in the pipeline's order:  " + "  ·  ".join(command for _, command, _ in PIPELINE),
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"callama {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, help="Print the version.")] = False,
) -> None:
    """Without a verb: the pipeline, and what exists so far in this folder."""
    if context.invoked_subcommand is not None:
        return
    print("The pipeline, and what exists in this folder:\n")
    for verb, command, pattern in PIPELINE:
        by_file = "*" in Path(pattern).name
        found = sorted((p if by_file else p.parent).as_posix() for p in Path().glob(pattern)) if pattern else []
        print(f"  {'✓' if found else '·'} {verb:11} {command}")
        for place in dict.fromkeys(found):
            print(f"              {place}")
    print("\n'callama VERB --help' explains a verb.")


_TRAINING = (estimate, train, consolidate, merge, verify)
for _verb in (pull, synth, clean, augment, build, check, inspect, *_TRAINING, evaluate, compare, chat, convert):
    app.command(no_args_is_help=_verb is not synth)(_verb)
