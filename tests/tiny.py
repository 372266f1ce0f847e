"""A real but tiny pipeline to test against: a ChatML tokenizer trained on a few sentences, a random
Llama of two layers in a native checkpoint, and conversations with one function each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from callama.contract.messages import Conversation, dump_line
from callama.contract.turns import render_turns
from callama.data.build import build
from callama.data.dataset import SCHEMA, Example, record_batch
from callama.model.params import ModelParams
from callama.model.transformer import Transformer
from callama.text.tokenizer import Tokenizer, load_tokenizer
from callama.weights.native import write_native

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
NOUNS = ("weather", "news", "time", "traffic", "tide", "moon", "train", "price")
CITIES = ("Oslo", "Lima", "Kyiv", "Bonn", "Cork")
CONTEXT = 1024
SEQUENCE = 372


def conversation(index: int) -> Conversation:
    """A call for a noun in a city; every fourth goes on with the result and an answer in text."""
    noun, city = NOUNS[index % len(NOUNS)], CITIES[index % len(CITIES)]
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": f"What is the {noun} in {city}, number {index}?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": f"get_{noun}", "arguments": {"city": city}}}]},
    ]
    if index % 4 == 0:
        messages += [
            {"role": "tool", "content": '{"value": 7}'},
            {"role": "assistant", "content": f"The {noun} in {city} is 7."},
        ]
    tools = [{"name": f"get_{noun}", "description": f"The {noun} of a city", "parameters": schema}]
    scenario = "answer_from_result" if index % 4 == 0 else "single"
    return Conversation.from_dict({"tools": tools, "messages": messages, "labels": {"scenario": scenario}})


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> Path:
    """A JSON Lines file of conversations."""
    path.write_text("".join(dump_line(c) + "\n" for c in conversations), encoding="utf-8")
    return path


def write_tokenizer(path: Path, vocab_size: int = 400) -> Tokenizer:
    """Byte-level BPE with ChatML's special tokens, trained on what the conversations say."""
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [turn.text for i in range(len(NOUNS) * len(CITIES)) for turn in render_turns(conversation(i))]
    library.train_from_iterator(texts, trainer)
    library.save(str(path))
    return load_tokenizer(path)


def write_examples(path: Path, examples: Iterable[Example], rows_per_batch: int = 1024) -> None:
    """A built file of these rows, in several record batches where there are many."""
    iterator = iter(examples)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        while batch := list(islice(iterator, rows_per_batch)):
            writer.write_batch(record_batch(batch))


def params(vocab_size: int) -> ModelParams:
    """Two layers of width 32 with grouped queries."""
    return ModelParams(
        dim=32, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=vocab_size, multiple_of=32, rope_theta=10_000.0,
        max_seq_len=CONTEXT,
    )  # fmt: skip


def random_model(vocab_size: int, *, tied: bool = False, seed: int = 0) -> Transformer:
    """A transformer with reproducible random weights in fp32, norms included."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(params(vocab_size), tied=tied)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.2, generator=generator)
    return model


def write_checkpoint(folder: Path, tokenizer_file: Path, *, seed: int = 0) -> Path:
    """A random native checkpoint with its tokenizer."""
    model = random_model(load_tokenizer(tokenizer_file).vocab_size, seed=seed)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    write_native(folder, model.params, state, tokenizer_file, {"kind": "native checkpoint", "dtype": "fp32"})
    return folder


def write_all(root: Path, count: int = 40) -> Path:
    """``root/model``, ``root/conversations.jsonl`` and ``root/built``."""
    write_tokenizer(root / "tokenizer.json")
    write_checkpoint(root / "model", root / "tokenizer.json")
    source = write_conversations(root / "conversations.jsonl", map(conversation, range(count)))
    build([source], root / "model", root / "built", val_ratio=0.25, seed=5)
    return root


def settings(root: Path, job: Path, **changes: Any) -> dict[str, Any]:
    """A training configuration on ``root`` that writes below ``job``; ``train__num_epochs=2`` changes a key."""
    out: dict[str, Any] = {
        "model_ckpt_file": str(root / "model" / "consolidated.pth"),
        "steps_per_print": 1,
        "device": "cpu",
        "dtype": "fp32",
        "model_config": {"max_seq_len": SEQUENCE},
        "lora_config": {"lora_rank": 4},
        "scheduler": {"max_lr": 1e-2, "warmup_num_steps": 2},
        "checkpoint": {"output_path": str(job), "job_name": "job", "save_interval": 1000},
        "tensorboard": {"enabled": False, "output_path": str(job / "logs"), "job_name": "job"},
        "train": {"dataset_sources": [str(root / "built" / "train.arrow")], "micro_batch_size": 1},
        "validation": {"enabled": False},
    }
    for path, value in changes.items():
        *parents, key = path.split("__")
        node = out
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = value
    return out


def write_settings(path: Path, values: dict[str, Any]) -> Path:
    """A configuration file."""
    path.write_text(json.dumps(values), encoding="utf-8")
    return path
