"""Cleans raw glaive-function-calling-v2 rows, with the original project's flags.

The same work as ``callama clean``: every dropped row stands in SAVE_FILE.quarantine.jsonl with its
reason, the counts in SAVE_FILE.report.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from callama.cli.clean import print_drop, print_summary
from callama.cli.common import guarded
from callama.data.clean import clean_file


def main() -> None:
    """Parses the flags and cleans."""
    parser = argparse.ArgumentParser(description="Clean raw glaive-function-calling-v2 rows.")
    parser.add_argument("--source-file", type=Path, required=True, help="a .json list or .jsonl of {system, chat}")
    parser.add_argument("--save-file", type=Path, required=True, help="cleaned file: .jsonl, or .json for a list")
    parser.add_argument("--remove-no-fc", action="store_true", help="drop conversations without a function call")
    parser.add_argument("--seed", type=int, default=3, help="accepted as before; cleaning draws nothing at random")
    parser.add_argument("-v", "--verbose", action="store_true", help="name every dropped row on standard error")
    args = parser.parse_args()
    on_drop = print_drop if args.verbose else None
    print_summary(clean_file(args.source_file, args.save_file, remove_no_fc=args.remove_no_fc, on_drop=on_drop))


if __name__ == "__main__":
    guarded(main)
