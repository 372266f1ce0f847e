"""Cleans raw function-calling data, with the original project's flags.

The same work as ``callama clean``: every dropped row stands in SAVE_FILE.quarantine.jsonl with its
reason, the counts in SAVE_FILE.report.json. ``callama clean --help`` explains every rule.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from callama.cli.clean import parse_mix, print_drop, print_summary
from callama.cli.common import guarded
from callama.data.clean import clean_files
from callama.data.formats.registry import FORMATS
from callama.data.work import Rules


def main() -> None:
    """Parses the flags and cleans."""
    default = Rules()
    parser = argparse.ArgumentParser(
        description="Clean function-calling data, such as raw glaive-function-calling-v2 rows.",
        epilog="example: python3 scripts/clean_dataset.py --source-file glaive-function-calling-v2.json "
        "--save-file datasets/cleaned.json --remove-no-fc",
    )
    add = parser.add_argument
    files = ".json, .jsonl (.gz, .zst) or Parquet"
    add("--source-file", type=Path, required=True, nargs="+", action="extend", help=files)
    add("--save-file", type=Path, required=True, help="cleaned file: .jsonl, or .json for a list")
    add("--format", choices=FORMATS, help="by default each record shows its own")
    add("--mix", default="", help="shares of the sources in the output, like 3:1")
    add("--remove-no-fc", action="store_true", help="drop conversations without a function call")
    add("--keep-tails", action="store_true", help="do not cut last exchanges of thanks and apologies")
    add("--balance-endings", action="store_true", help="let conversations end on questions, calls and answers in turn")
    add("--keep-duplicates", action="store_true", help="do not drop exact and near duplicates")
    add("--max-per-phrasing", type=int, default=default.max_per_phrasing, help="openings alike; 0: any number")
    add("--require-grounded", action="store_true", help="drop calls with arguments that nobody said before")
    add("--seed", type=int, default=default.seed, help="draws which endings are cut and who is thinned out")
    add("--workers", type=int, help="processes; default: all cores")
    add("-v", "--verbose", action="store_true", help="name every dropped row on standard error")
    args = parser.parse_args()
    rules = Rules(
        remove_no_fc=args.remove_no_fc,
        cut_tails=not args.keep_tails,
        balance=args.balance_endings,
        remove_duplicates=not args.keep_duplicates,
        max_per_phrasing=args.max_per_phrasing,
        require_grounded=args.require_grounded,
        seed=args.seed,
    )
    result = clean_files(
        args.source_file,
        args.save_file,
        rules,
        format_name=args.format,
        mix=parse_mix(args.mix),
        workers=args.workers,
        on_drop=print_drop if args.verbose else None,
    )
    print_summary(result)


if __name__ == "__main__":
    guarded(main)
