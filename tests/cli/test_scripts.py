"""The original's scripts under their own names and flags, the whole way in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from callama.cli.dialogues import DIALOGUES
from callama.common.files import atomic_folder
from callama.data.read import read_conversations
from tests import tiny
from tests.cli.conftest import REPO, Run, RunHere

GLAIVE = REPO.parent / "shared" / "data" / "glaive" / "raw_rows.jsonl"

FLAGS = {
    "scripts/clean_dataset.py": ["--source-file", "--save-file", "--remove-no-fc"],
    "scripts/build_dataset.py": ["--source-file", "--tokenizer-file", "--save-dir", "--verbose"],
    "scripts/convert_lora_weights.py": ["--config-dir", "--base-ckpt-path", "--lora-ckpt-path", "--output-dir"],
    "scripts/convert_from_meta_weights.py": ["--llama3-dir", "--output-dir"],
    "scripts/convert_to_meta_weights.py": ["--config-file", "--ckpt-file", "--num-shards", "--output-dir"],
    "finetune.py": ["--config-file", "--resume", "--fresh", "--log-level"],
    "chat_completion.py": ["--ckpt_dir", "--tokenizer_path", "--temperature", "--top_p", "--max_seq_len",
                           "--max_batch_size", "--max_gen_len", "--device", "--seed"],
}  # fmt: skip
RAW = {
    "system": 'SYSTEM: You help. -\n{"name": "get_NOUN", "description": "NOUN of a city", "parameters": '
    '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}\n',
    "chat": 'USER: NOUN in Oslo?\n\n\nASSISTANT: <functioncall> {"name": "get_NOUN", "arguments": '
    '\'{"city": "Oslo"}\'} <|endoftext|>\n\n\nFUNCTION RESPONSE: {"value": 7}\n\n\nASSISTANT: It is 7. <|endoftext|>\n',
}


@pytest.mark.parametrize("script", FLAGS)
def test_help_names_the_originals_flags(here: RunHere, script: str) -> None:
    done = here(script, "--help")
    assert done.status == 0
    assert all(flag in done.out for flag in FLAGS[script])


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("chat_completion.py", ["--ckpt_dir", "none"], "none is not a folder; expected a native checkpoint"),
        ("chat_completion.py", ["--ckpt_dir", "MODEL", "--tokenizer_path", "none.model"], "none.model does not exist"),
        ("chat_completion.py", ["--ckpt_dir", "MODEL", "--max_seq_len", "9999"], "max_seq_len 9999 is longer than"),
        ("chat_completion.py", ["--ckpt_dir", "MODEL", "--temperature", "-1"], "--temperature must be 0 or more"),
        ("chat_completion.py", ["--ckpt_dir", "MODEL", "--max_gen_len", "0"], "--max_gen_len must be at least 1"),
        ("finetune.py", [], "configs/finetune.json does not exist"),
        ("finetune.py", ["--log-level", "info"], "configs/finetune.json does not exist"),
        ("finetune.py", ["--config-file=~/none.json"], "/home/me/none.json does not exist"),
        ("finetune.py", ["--config-file", "CONFIG", "train.no_such=1"], "unknown key 'train.no_such'"),
        ("scripts/build_dataset.py", ["--source-file", "none", "--tokenizer-file", "MODEL", "--save-dir", "o"], "none"),
        ("scripts/build_dataset.py", ["-v", "--source-file", "none", "--tokenizer-file", "MODEL", "--save-dir", "o"],
         "none"),
        ("scripts/convert_lora_weights.py", ["--config-dir", "x", "--base-ckpt-path", "none/consolidated.pth",
          "--lora-ckpt-path", "y", "--output-dir", "o"], "x is not a folder; expected the one"),
        ("scripts/convert_from_meta_weights.py", ["--llama3-dir", "none", "--output-dir", "o"],
         "none does not exist; expected a model"),
        ("scripts/convert_to_meta_weights.py", ["--config-file", "none", "--ckpt-file", "none", "--output-dir", "o"],
         "none does not exist; expected Meta's params.json"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_line(
    here: RunHere, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    script: str, arguments: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", "/home/me")
    config = tiny.write_settings(tmp_path / "config.json", tiny.settings(world, tmp_path / "out"))
    places = {"MODEL": str(world / "model"), "CONFIG": str(config)}
    done = here(script, *(places.get(a, a) for a in arguments))
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1 and done.err.startswith("error: ") and words in done.err


# Ctrl-C at the moment when the first of the large libraries is looked for.
INTERRUPTED = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("script", ["finetune.py", "ds_finetune.py"])
def test_ctrl_c_while_libraries_are_loaded_is_one_line(tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(REPO / script)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.slow
def test_from_raw_rows_to_a_chat(run: Run, here: RunHere, world: Path, tmp_path: Path) -> None:
    """clean_dataset → build_dataset → finetune → convert_lora_weights → chat_completion."""
    rows = [{k: v.replace("NOUN", noun) for k, v in RAW.items()} for noun in tiny.NOUNS for _ in range(3)]
    (tmp_path / "raw.json").write_text(json.dumps([*rows, {"system": "", "chat": "USER: only a question"}]))
    model = world / "model"

    cleaned = run(
        "scripts/clean_dataset.py", "--source-file", "raw.json", "--save-file", "cleaned.json", "--remove-no-fc",
        "--keep-duplicates",
    )  # fmt: skip
    assert cleaned.returncode == 0, cleaned.stderr
    assert "25 read = 24 kept + 1 dropped" in cleaned.stdout
    assert len(list(read_conversations(tmp_path / "cleaned.json"))) == 24

    built = run("scripts/build_dataset.py", "--source-file", "cleaned.json",
                "--tokenizer-file", model / "tokenizer.json", "--save-dir", "datasets/built")  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "read 24, dropped 0" in built.stdout and "functions on both sides: 0" in built.stdout

    values = tiny.settings(world, Path("checkpoints"), tensorboard__enabled=True, tensorboard__output_path="logs")
    values["train"]["dataset_sources"] = ["datasets/built/train.arrow"]
    values["validation"] = {"dataset_sources": ["datasets/built/validation.arrow"], "steps": 2}
    tiny.write_settings(tmp_path / "config.json", values)
    tuned = run("finetune.py", "--config-file", "config.json", "train.num_epochs=2")
    assert tuned.returncode == 0, tuned.stderr
    assert "validation loss" in tuned.stdout and "checkpoint: checkpoints/job/step_" in tuned.stdout
    checkpoint = tuned.stdout.split("checkpoint: ")[1].strip()
    assert list((tmp_path / "logs" / "job").glob("events.out.tfevents.*"))

    merged = run("scripts/convert_lora_weights.py", "--config-dir", checkpoint, "--base-ckpt-path",
                 model / "consolidated.pth", "--lora-ckpt-path", checkpoint, "--output-dir", "merged")  # fmt: skip
    assert merged.returncode == 0 and merged.stdout.endswith("merged: merged\n"), merged.stderr

    flags = ["--ckpt_dir", "merged", "--tokenizer_path", model / "tokenizer.json", "--max_gen_len", "6"]
    greedy = run("chat_completion.py", *flags)
    assert greedy.returncode == 0, greedy.stderr
    assert [line for line in greedy.stdout.splitlines() if line.startswith("== ")] == [
        f"== {dialogue.title}" for dialogue in DIALOGUES
    ]
    assert greedy.stdout.count("\n> Assistant") == len(DIALOGUES)
    assert here("chat_completion.py", *flags).out == greedy.stdout
    sampled = here("chat_completion.py", *flags, "--temperature", "2", "--top_p", "0.95", "--seed", "5")
    assert sampled.status == 0 and sampled.out != greedy.stdout


def test_to_metas_shards_and_back(here: RunHere, world: Path, tmp_path: Path) -> None:
    model = world / "model"
    done = here("scripts/convert_to_meta_weights.py", "--config-file", model / "params.json", "--ckpt-file",
                model / "consolidated.pth", "--num-shards", "2", "--output-dir", "meta")  # fmt: skip
    assert (done.status, done.out) == (0, "meta: Meta checkpoint, 2 shards\n"), done.err
    done = here("scripts/convert_from_meta_weights.py", "--llama3-dir", "meta", "--output-dir", "native")
    assert (done.status, done.out) == (0, "native: native checkpoint\n"), done.err
    assert (tmp_path / "native" / "consolidated.pth").read_bytes() == (model / "consolidated.pth").read_bytes()


def test_the_settings_of_shards_are_a_source_too(here: RunHere, world: Path, tmp_path: Path) -> None:
    """Their folder is not replaced, and what callama wrote into it is held against its manifest."""
    model, settings = world / "model", tmp_path / "settings"
    with atomic_folder(settings, {}) as folder:
        shutil.copy(model / "params.json", folder)
    flags = ["--ckpt-file", model / "consolidated.pth", "--num-shards", "1", "--output-dir"]
    for file in (settings, settings / "params.json"):
        done = here("scripts/convert_to_meta_weights.py", "--config-file", file, *flags, settings)
        assert done.status == 2 and "settings is also the source" in done.err
    with (settings / "params.json").open("a") as params:
        params.write(" ")
    for file in (settings, settings / "params.json"):
        done = here("scripts/convert_to_meta_weights.py", "--config-file", file, *flags, "meta")
        assert done.status == 1 and "params.json was changed or damaged after callama wrote it" in done.err
    assert not (tmp_path / "meta").exists()


def test_shards_without_a_tokenizer_are_told_of(here: RunHere, world: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(world / "model", model, ignore=shutil.ignore_patterns("tokenizer*"))
    done = here("scripts/convert_to_meta_weights.py", "--config-file", model / "params.json", "--ckpt-file",
                model / "consolidated.pth", "--output-dir", "meta")  # fmt: skip
    assert done.status == 0 and f"note: {model} has no tokenizer, so neither has meta" in done.err


def test_the_base_may_be_named_by_its_folder(here: RunHere, world: Path, tmp_path: Path) -> None:
    """What comes after finding the base is the adapter that is missing."""
    for base in (world / "model", world / "model/consolidated.pth"):
        done = here("scripts/convert_lora_weights.py", "--config-dir", tmp_path, "--base-ckpt-path", base,
                    "--lora-ckpt-path", tmp_path / "none", "--output-dir", "o")  # fmt: skip
        assert done.status == 2 and f"{tmp_path / 'none'} is neither an adapter folder" in done.err


def test_output_that_is_no_utf_8_loses_no_result() -> None:
    code = (
        "from callama.cli.common import guarded; from callama.cli.merge import print_errors; "
        "from callama.weights.budget import MergeError; guarded(lambda: print_errors({'fp32': MergeError(1, 1, 0, 2)}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and r"max |\u0394logit|" in done.stdout and not done.stderr, done.stderr


def test_a_signal_that_comes_out_as_another_exception_is_still_one_line() -> None:
    """As torch's device contexts make of it, when it comes in the wrong moment."""
    code = """
import signal, sys
from callama.cli.common import guarded
def run():
    try:
        if len(sys.argv) > 1:
            signal.raise_signal(int(sys.argv[1]))
    finally:
        raise RuntimeError("trying to pop from empty mode stack")
guarded(run)
"""
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    for number, status, said in (((), 1, None), ((2,), 130, "interrupted\n"), ((15,), 143, "terminated\n")):
        command = [sys.executable, "-c", code, *map(str, number)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == status
        assert done.stderr == said if said else "Traceback" in done.stderr


def test_sources_may_be_named_at_once_or_one_by_one(here: RunHere, world: Path, tmp_path: Path) -> None:
    for name, numbers in (("a.jsonl", range(30)), ("b.jsonl", range(30, 50))):
        tiny.write_conversations(tmp_path / name, map(tiny.conversation, numbers))
    rest = ["--tokenizer-file", world / "tokenizer.json", "--mix", "1:2", "--save-dir"]
    at_once = here("scripts/build_dataset.py", "--source-file", "a.jsonl", "b.jsonl", *rest, "x")
    one_by_one = here("scripts/build_dataset.py", "--source-file", "a.jsonl", "--source-file", "b.jsonl", *rest, "y")
    verb = here("callama", "build", "a.jsonl", "b.jsonl", "--tokenizer", world / "tokenizer.json", "--mix", "1:2",
                "--out", "z")  # fmt: skip
    for done in (at_once, one_by_one, verb):
        assert done.status == 0, done.err
        assert "from a.jsonl: read 30, kept 10 (33.3% of all), dropped: over_mix 20\n" in done.out
        assert "from b.jsonl: read 20, kept 20 (66.7% of all)\n" in done.out
    assert (tmp_path / "x" / "MANIFEST.json").read_bytes() == (tmp_path / "y" / "MANIFEST.json").read_bytes()


@pytest.mark.skipif(not GLAIVE.is_file(), reason=f"{GLAIVE} is absent")
def test_genuine_glaive_rows_become_a_data_set(here: RunHere, world: Path) -> None:
    cleaned = here("scripts/clean_dataset.py", "--source-file", GLAIVE, "--save-file", "cleaned.json")
    assert cleaned.status == 0, cleaned.err
    built = here("scripts/build_dataset.py", "--source-file", "cleaned.json",
                "--tokenizer-file", world / "tokenizer.json", "--save-dir", "built")  # fmt: skip
    assert built.status == 0, built.err
    assert "read 7, dropped 0" in built.out
