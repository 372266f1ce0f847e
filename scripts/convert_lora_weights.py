"""Merges a LoRA adapter into its base model."""

import argparse
from pathlib import Path

from callama.cli.common import guarded, loading


def main() -> None:
    """Parses and merges."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python3 scripts/convert_lora_weights.py --config-dir checkpoints/llama3_fc/step_000400 "
        "--base-ckpt-path models/Llama-3-8B-Instruct/consolidated.pth "
        "--lora-ckpt-path checkpoints/llama3_fc/step_000400 --output-dir checkpoints/finetuned_merged",
    )
    parser.add_argument(
        "--config-dir", type=Path, required=True, help="folder of the .pt file's lora.json; a PEFT folder has its own"
    )
    parser.add_argument("--base-ckpt-path", type=Path, required=True, help="the base's consolidated.pth or its folder")
    parser.add_argument("--lora-ckpt-path", type=Path, required=True, help="adapter folder, or the original's .pt file")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    with loading():
        from callama.cli.merge import print_errors
        from callama.weights.merge import merge_to_folder

    whole = args.base_ckpt_path.is_dir()
    errors = merge_to_folder(
        args.base_ckpt_path if whole else args.base_ckpt_path.parent,
        args.lora_ckpt_path,
        args.output_dir,
        base_weights=None if whole else args.base_ckpt_path,
        config_dir=args.config_dir,
    )
    print_errors(errors)
    print(f"{args.output_dir}: merged")


if __name__ == "__main__":
    guarded(main)
