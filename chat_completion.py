"""Runs a fine-tuned or base model on a handful of dialogues, with and without tools, and prints what it answers; with
--tools it talks to you instead."""

import argparse
from pathlib import Path

from callama.cli.common import guarded
from callama.cli.dialogues import DIALOGUES, transcript
from callama.cli.talk import read_offer, require_savable, talk
from callama.common.errors import UsageError
from callama.common.progress import Meter
from callama.contract.grammar import Choice
from callama.generate.chat import ChatModel
from callama.generate.sampling import Sampling


def main() -> None:
    """Parses, answers every dialogue in one batch, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python3 chat_completion.py --ckpt_dir checkpoints/demo-merged "
        "--tokenizer_path models/smollm2-135m/tokenizer.json --tools my_tools.json",
    )
    parser.add_argument("--ckpt_dir", type=Path, required=True, help="native checkpoint: params.json, consolidated.pth")
    parser.add_argument("--tokenizer_path", type=Path, help="tokenizer.model or tokenizer.json; default: in --ckpt_dir")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token; the original used 0.6")
    parser.add_argument("--top_p", type=float, default=0.9, help="share of probability that sampling draws from")
    parser.add_argument("--max_gen_len", type=int, default=256, help="longest answer, in tokens")
    parser.add_argument("--max_seq_len", type=int, help="longest dialogue and answer; default: the context")
    parser.add_argument("--max_batch_size", type=int, default=16, help="dialogues that are answered side by side")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seed", type=int, default=1, help="decides what sampling draws")
    parser.add_argument("--constrained", action="store_true", help="allow only text or calls that fit the tools")
    parser.add_argument(
        "--tools", type=Path, action="append",
        help="talk, with these functions: a JSON list of tools, an MCP reply, an OpenAPI document, a Python module",
    )  # fmt: skip
    parser.add_argument("--save", type=Path, help="with --tools: append the conversation to this JSON Lines file")
    args = parser.parse_args()
    for name in ("max_gen_len", "max_batch_size", "max_seq_len"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, found {value}")
    if args.temperature < 0 or not 0 <= args.top_p <= 1:
        raise UsageError("--temperature must be 0 or more and --top_p from 0 to 1")
    if args.save is not None:
        if not args.tools:
            raise UsageError("--save keeps a conversation of yours: give the functions with --tools")
        require_savable(args.save)
    offer = read_offer(args.tools or ())
    model = ChatModel(
        args.ckpt_dir, args.tokenizer_path, args.device, slots=args.max_batch_size, max_seq_len=args.max_seq_len
    )
    sampling = Sampling(args.temperature, args.top_p, args.seed)
    if args.tools:
        talk(model, offer, sampling=sampling, max_new_tokens=args.max_gen_len, constrained=args.constrained,
             save=args.save)  # fmt: skip
        return
    choice = Choice() if args.constrained else None
    whole: dict[int, bool] = {}
    with Meter("answering", len(DIALOGUES), "dialogues") as meter:

        def done(index: int, is_whole: bool) -> None:
            whole[index] = is_whole
            meter.advance()

        answers = model.answer(
            [dialogue.conversation for dialogue in DIALOGUES], args.max_gen_len, sampling,
            done, choice,
        )  # fmt: skip
    for index, (dialogue, answer) in enumerate(zip(DIALOGUES, answers, strict=True)):
        print(transcript(dialogue, answer, whole[index]) + "\n")


if __name__ == "__main__":
    guarded(main)
