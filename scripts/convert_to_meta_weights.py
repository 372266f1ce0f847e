"""Turns a native checkpoint into shards that Meta's own loaders accept."""

import argparse
from pathlib import Path

from callama.cli.common import guarded, loading


def main() -> None:
    """Parses and converts."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python3 scripts/convert_to_meta_weights.py --config-file checkpoints/merged/params.json "
        "--ckpt-file checkpoints/merged/consolidated.pth --num-shards 1 --output-dir models/FineTuned-8B",
    )
    parser.add_argument("--config-file", type=Path, required=True, help="the model's params.json")
    parser.add_argument("--ckpt-file", type=Path, required=True, help="the model's consolidated.pth")
    parser.add_argument("--num-shards", type=int, default=1, help="1, 2, 4 or 8")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    with loading():
        from callama.common.places import require_apart
        from callama.weights.convert import note_tokenizer
        from callama.weights.meta import write_meta
        from callama.weights.native import open_native

    require_apart(args.output_dir, args.config_file, args.ckpt_file)
    source = open_native(args.ckpt_file.parent, args.ckpt_file, args.config_file)
    note_tokenizer(source, args.output_dir)
    write_meta(args.output_dir, source, args.num_shards)
    print(f"{args.output_dir}: Meta checkpoint, {args.num_shards} shard{'s' if args.num_shards > 1 else ''}")


if __name__ == "__main__":
    guarded(main)
