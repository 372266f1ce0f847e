"""``callama build``: conversations to a tokenized data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from callama.cli.clean import parse_mix
from callama.cli.common import print_json
from callama.common.errors import UsageError
from callama.common.parallel import available_cores
from callama.data.build import build as build_dataset
from callama.data.reasons import Repair
from callama.data.split import SIDES


def build(
    sources: Annotated[list[Path], typer.Argument(help="Files of conversations (.jsonl or .json).")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", help="tokenizer.model, tokenizer.json or their folder.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    mix: Annotated[str, typer.Option(help="Shares of the sources, in their order, like 3:1; default: take all.")] = "",
    val_ratio: Annotated[float, typer.Option(help="Share of conversations for validation.")] = 0.15,
    seed: Annotated[int, typer.Option(help="Draws what --mix leaves out and which functions are held out.")] = 3,
    train_on: Annotated[
        str, typer.Option(help="all: every answer is trained; last: only a conversation's last.")
    ] = "all",
    max_tokens: Annotated[int, typer.Option(help="Longer conversations are cut behind an answer that fits.")] = 8192,
    workers: Annotated[int, typer.Option(help="Processes; the output does not depend on it. 0: one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metadata as one JSON object.")] = False,
) -> None:
    """Tokenize conversations, split by function, check the round trip of every answer.

    Example: callama build datasets/demo/train.jsonl --tokenizer models/smollm2-135m --out datasets/demo-built
    """
    if train_on not in ("all", "last"):
        raise UsageError(f"--train-on must be all or last, found {train_on!r}")
    metadata = build_dataset(
        sources,
        tokenizer,
        out,
        mix=parse_mix(mix),
        val_ratio=val_ratio,
        seed=seed,
        train_on="last" if train_on == "last" else "all",
        max_tokens=max_tokens,
        workers=workers or available_cores(),
    )
    if as_json:
        print_json(metadata)
    else:
        print_summary(metadata, out)


def print_summary(metadata: dict[str, Any], out: Path) -> None:
    """What was built, in a few lines."""
    dropped = sum(metadata["dropped"].values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in metadata["dropped"].items())
    print(f"{out}: read {metadata['read']:,}, dropped {dropped:,}{f' ({reasons})' if reasons else ''}")
    if len(metadata["sources"]) > 1:
        _print_sources(metadata["sources"])
    if count := metadata[Repair.REASONING]:
        print(
            f"  {Repair.REASONING}: {count:,} conversations have thoughts beside an answer's text, which are not read"
        )
    for side in SIDES:
        report = metadata[side]
        cut = f", {report['cut']['conversations']:,} cut" if report["cut"]["conversations"] else ""
        print(
            f"  {side:10} {report['conversations']:,} conversations, {report['tokens']:,} tokens, "
            f"{report['supervised_tokens']:,} supervised, longest {report['length_tokens']['max']:,}{cut}"
        )
    leakage = metadata["leakage"]
    print(
        f"  split {metadata['split']}; functions on both sides: {leakage['validation_functions_seen_in_training']}; "
        f"near-duplicate pairs across: {leakage['near_duplicate_pairs_across']}"
    )


def _print_sources(sources: list[dict[str, Any]]) -> None:
    kept = [sum(source[side] for side in SIDES) for source in sources]
    for source, number in zip(sources, kept, strict=True):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in source["dropped"].items())
        print(
            f"  from {source['file']}: read {source['read']:,}, kept {number:,} ({number / sum(kept):.1%} of all)"
            f"{f', dropped: {reasons}' if reasons else ''}"
        )
