"""Tokenizes cleaned conversations into a data set, split by function."""

import argparse
from pathlib import Path

from callama.cli.build import print_summary
from callama.cli.clean import parse_mix
from callama.cli.common import guarded
from callama.common.parallel import available_cores
from callama.data.build import build


def main() -> None:
    """Parses, builds, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python3 scripts/build_dataset.py --source-file datasets/cleaned.json "
        "--tokenizer-file tokenizer.model --save-dir datasets/built",
    )
    parser.add_argument(
        "--source-file", type=Path, required=True, nargs="+", action="extend", help="cleaned conversations"
    )
    parser.add_argument("--tokenizer-file", type=Path, required=True, help="tokenizer.model or tokenizer.json")
    parser.add_argument("--save-dir", type=Path, required=True, help="folder to write")
    parser.add_argument("--mix", default="", help="shares of the source files, in their order, like 3:1")
    parser.add_argument("--val-ratio", type=float, default=0.15, help="share of conversations for validation")
    parser.add_argument(
        "--seed", type=int, default=3, help="draws what --mix leaves out and which functions are held out"
    )
    parser.add_argument("--train-on", choices=("all", "last"), default="all", help="which answers are trained")
    parser.add_argument("--max-tokens", type=int, default=8192, help="longer ones are cut")
    parser.add_argument("--workers", type=int, default=0, help="processes (0: one per core)")
    verbose = "accepted for the original's sake; without effect"
    parser.add_argument("-v", "--verbose", action="store_true", help=verbose)
    args = parser.parse_args()
    metadata = build(
        args.source_file,
        args.tokenizer_file,
        args.save_dir,
        mix=parse_mix(args.mix),
        val_ratio=args.val_ratio,
        seed=args.seed,
        train_on=args.train_on,
        max_tokens=args.max_tokens,
        workers=args.workers or available_cores(),
    )
    print_summary(metadata, args.save_dir)


if __name__ == "__main__":
    guarded(main)
