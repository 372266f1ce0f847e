"""Turns a folder as Meta ships it (params.json, consolidated.NN.pth) into a native checkpoint."""

import argparse
from pathlib import Path

from callama.cli.common import guarded, loading


def main() -> None:
    """Parses and converts."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python3 scripts/convert_from_meta_weights.py --llama3-dir models/Meta-Llama-3-8B-Instruct "
        "--output-dir models/Llama-3-8B-Instruct",
    )
    parser.add_argument("--llama3-dir", type=Path, required=True, help="Meta's folder, with 1, 2, 4 or 8 shards")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    with loading():
        from callama.weights.convert import convert

    convert(args.llama3_dir, args.output_dir, "native")
    print(f"{args.output_dir}: native checkpoint")


if __name__ == "__main__":
    guarded(main)
