"""Fine-tunes with LoRA on one device: ``python3 finetune.py [--config-file configs/finetune.json] [key=value …]``."""

import argparse
from pathlib import Path

from callama.cli.common import guarded, loading


def main() -> None:
    """Parses, trains, prints."""
    parser = argparse.ArgumentParser(description="Fine-tune a Llama 3 model for function calling on one device.")
    parser.add_argument("--config-file", type=Path, default=Path("configs/finetune.json"), help="settings of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--fresh", action="store_true", help="remove an earlier run's checkpoints and start over")
    parser.add_argument("--log-level", help="accepted for the original's sake; without effect")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    args = parser.parse_intermixed_args()
    with loading():  # seconds, so that Ctrl-C is one line
        from callama.cli.train import print_summary
        from callama.train.config import load_config
        from callama.train.loop import train

    config = load_config(args.config_file, args.overrides)
    print_summary(train(config, resume=args.resume, fresh=args.fresh))


if __name__ == "__main__":
    guarded(main)
