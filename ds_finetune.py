"""Fine-tunes with LoRA under DeepSpeed: ``deepspeed --num_gpus=1 ds_finetune.py [--config-file …] [key=value …]``."""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from callama.cli.common import guarded, loading


def main() -> None:
    """Parses, trains, prints; of all processes the first one only."""
    parser = argparse.ArgumentParser(
        description="Fine-tune a Llama 3 model for function calling under DeepSpeed's ZeRO 1, 2 or 3.",
        epilog="example: deepspeed --num_gpus=1 ds_finetune.py deepspeed_config.zero_optimization.stage=3",
    )
    default = Path("configs/ds_finetune.json")
    parser.add_argument("--config-file", type=Path, default=default, help="settings of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--fresh", action="store_true", help="remove an earlier run's checkpoints and start over")
    parser.add_argument("--local_rank", type=int, help="given by the launcher; which device is the process's own")
    original = "accepted for the original's sake; without effect"
    parser.add_argument("--log-level", help=original)
    parser.add_argument("--deepspeed", action="store_true", help=original)
    parser.add_argument("--deepspeed_config", help=f"{original}: --config-file has DeepSpeed's settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    args = parser.parse_intermixed_args()
    with loading():  # seconds, so that Ctrl-C is one line
        from callama.cli.train import end_as_asked, print_lines
        from callama.train.ds_config import load_ds_config
        from callama.train.loop import train

    config = load_ds_config(args.config_file, args.overrides)
    first = os.environ.get("RANK", "0") == "0"
    if first:
        for sentence in config.without_effect():
            print(sentence, file=sys.stderr)
    result = train(config.plain(), resume=args.resume, fresh=args.fresh)
    if first:
        print_lines(result)
    end_as_asked(result)


def _leave(status: int) -> NoReturn:
    if "torch" in sys.modules:  # what it takes care of is loaded
        from callama.train.zero import leave

        leave(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    guarded(main, _leave)
