#!/bin/sh
# The pipeline on the embedded model, each step the command that a user would type.
set -eu

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run callama pull smollm2-135m
# Twelve tools and more fill what the small model reads at once, and one such list costs as much as ten conversations.
run callama synth --weight long_list=0 --out datasets/demo
run callama build datasets/demo/train.jsonl --tokenizer models/smollm2-135m --max-tokens 1024 --out datasets/demo-built
run callama train configs/demo.json --fresh
run callama merge models/smollm2-135m checkpoints/demo checkpoints/demo-merged
run callama evaluate datasets/demo/held_out.jsonl --model checkpoints/demo-merged --base models/smollm2-135m \
    --out checkpoints/demo-report.json

printf '\nThe report is in checkpoints/demo-report.json. Go on with:\n'
printf '  callama chat checkpoints/demo-merged      (talk to it; . .venv/bin/activate first)\n'
printf '  tensorboard --logdir ./logs               (curves of the training)\n'
