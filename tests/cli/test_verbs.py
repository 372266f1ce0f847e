"""The command line as a whole: help, the pipeline, wrong use, one JSON object as the last line."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import typer.main

from callama.cli import app as cli
from callama.common.files import read_manifest
from callama.train.config import load_config
from callama.train.loop import train
from tests import tiny
from tests.cli.conftest import Done, Run, RunHere

Callama = Callable[..., Done]
VERBS = [verb for verb, _, _ in cli.PIPELINE]


@pytest.fixture
def callama(here: RunHere) -> Callama:
    return partial(here, "callama")


@pytest.fixture
def trained(world: Path, tmp_path: Path) -> Path:
    values = tiny.settings(world, tmp_path / "checkpoints")
    train(load_config(tiny.write_settings(tmp_path / "config.json", values)))
    return tmp_path / "checkpoints" / "job"


def assert_one_line_error(done: Done, *words: str, status: int = 2) -> None:
    assert done.status == status
    assert done.out == ""
    lines = done.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.err
    assert all(word in lines[0] for word in words), lines[0]


def test_every_verb_stands_in_the_pipeline(callama: Callama) -> None:
    callama()
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert list(commands) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_help_explains_a_verb_with_an_example(callama: Callama, verb: str) -> None:
    done = callama(verb, "--help")
    assert done.status == 0
    assert f"Example: callama {verb} " in " ".join(done.out.split())


def test_help_names_every_verb_with_an_example(callama: Callama) -> None:
    done = callama("--help")
    said = " ".join(done.out.replace("│", " ").split())
    assert done.status == 0
    for verb, command, _ in cli.PIPELINE:
        assert command in said, verb


def test_without_a_verb_the_pipeline_and_what_exists(callama: Callama, tmp_path: Path) -> None:
    done = callama()
    positions = [done.out.index(command) for _, command, _ in cli.PIPELINE]
    assert done.status == 0 and positions == sorted(positions) and "✓" not in done.out
    for path in ("models/m/params.json", "datasets/d/metadata.json", "datasets/c.jsonl.report.json",
                 "checkpoints/j/latest", "checkpoints/j/params.json", "checkpoints/report.json"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    lines = [line.strip() for line in callama().out.splitlines()]
    ticked = {line.split()[1] for line in lines if line.startswith("✓")}
    assert ticked == {"pull", "clean", "build", "train", "evaluate"}
    places = {"models/m", "datasets/d", "datasets/c.jsonl.report.json", "checkpoints/j", "checkpoints/report.json"}
    assert places <= set(lines)
    (tmp_path / "checkpoints" / "merged").mkdir()
    (tmp_path / "checkpoints" / "merged" / "consolidated.pth").write_text("")
    lines = [line.strip() for line in callama().out.splitlines()]
    assert any(line.startswith("✓ merge") for line in lines) and "checkpoints/merged" in lines


def test_convert_and_verify(callama: Callama, world: Path, tmp_path: Path) -> None:
    assert callama("convert", world / "model", "exports/hf", "--to", "hf", "--shard-size", "20KB").status == 0
    assert len(list((tmp_path / "exports/hf").glob("model-*.safetensors"))) > 2
    assert callama("verify", "exports/hf", "--json").last_json["extra"] == []
    (tmp_path / "exports/hf" / "config.json").write_text("{}")
    spoilt = callama("verify", "exports/hf")
    assert spoilt.status == 1 and "config.json has 2 bytes instead of" in spoilt.err.splitlines()[-1]
    assert_one_line_error(callama("convert", world / "model", "o", "--to", "onnx"), "--to must be one of native, hf")
    assert_one_line_error(callama("convert", world / "model", "o", "--to", "hf", "--shard-size", "big"), "500MB or 5GB")
    assert callama("convert", world / "model", "exports/m.gguf", "--to", "gguf").status == 0
    assert "as the CRC-32 inside says" in callama("verify", "exports/m.gguf").out
    assert callama("verify", "exports/m.gguf", "--json").last_json["bytes"] == Path("exports/m.gguf").stat().st_size
    assert_one_line_error(callama("verify", "exports/none.gguf"), "none.gguf", "is neither a folder nor a file")


def test_version(callama: Callama) -> None:
    done = callama("--version")
    assert done.status == 0 and done.out.startswith("callama 0")


@pytest.mark.parametrize(
    "arguments", [["no-such-verb"], ["build", "--no-such-option"], ["synth"], ["build", "a.jsonl"], ["train"],
                  ["evaluate", "suite.jsonl"], ["synth", "--out", "x", "--count", "0"],
                  ["chat", "model", "--device", "tpu"]]
)  # fmt: skip
def test_wrong_use_has_status_2_and_no_traceback(callama: Callama, arguments: list[str]) -> None:
    done = callama(*arguments)
    assert done.status == 2
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull", "llama-9"], ["'llama-9'", "smollm2-135m"]),
        (["clean", "none.json", "--out", "o.jsonl"], ["none.json does not exist"]),
        (["build", "none.jsonl", "--tokenizer", "MODEL", "--out", "o"], ["none.jsonl does not exist"]),
        (["build", "CONVERSATIONS", "--tokenizer", "none", "--out", "o"], ["none does not exist"]),
        (["build", "CONVERSATIONS", "--tokenizer", "MODEL", "--out", "o", "--val-ratio", "2"], ["--val-ratio"]),
        (["build", "CONVERSATIONS", "--tokenizer", "MODEL", "--out", "o", "--train-on", "x"], ["--train-on", "'x'"]),
        (["train", "none.json"], ["none.json does not exist"]),
        (["merge", "none", "MODEL", "o"], ["none is not a folder"]),
        (["merge", "MODEL", "none", "o"], ["none is neither an adapter"]),
        (["merge", "MODEL", "MODEL", "o", "--dtype", "int3"], ["--dtype", "'int3'"]),
        (["evaluate", "none.jsonl", "--model", "MODEL"], ["none.jsonl does not exist"]),
        (["evaluate", "CONVERSATIONS", "--model", "none"], ["none is not a folder"]),
        (
            [
                "evaluate",
                "CONVERSATIONS",
                "--endpoint",
                "http://localhost:9",
                "--model",
                "m",
                "--text",
                "CONVERSATIONS",
            ],
            ["--text measures checkpoints here"],
        ),
        (["evaluate", "CONVERSATIONS", "--model", "MODEL", "--adapter", "no"], ["no does not exist", "LoRA folder"]),
        (["chat", "none"], ["none is not a folder"]),
        (["chat", "MODEL", "--tools", "none.json"], ["none.json does not exist"]),
        (["synth", "--out", "o", "--scenarios", "sing"], ["'sing'"]),
        (["synth", "--out", "o", "--scenarios", ","], ["no scenario given"]),
        (["synth", "--out", "o", "--rate", "60"], ["--rate is for a teacher"]),
        (["synth", "--out", "o", "--slots", "6"], ["--slots is for a teacher"]),
        (["synth", "--out", "o", "--teacher-model", "m"], ["--teacher-model is for a teacher"]),
        (
            ["synth", "--out", "o", "--weight", "single=1e308"],
            ["--weight single=1e308", "a number from 0 to 1,000,000"],
        ),
        (["synth", "--out", "o", "--weight", "single=nan"], ["--weight single=nan"]),
        (["synth", "--out", "/proc/x"], ["/proc cannot be written to"]),
    ],
)
def test_a_users_mistake_is_one_line(callama: Callama, world: Path, arguments: list[str], words: list[str]) -> None:
    places = {"MODEL": str(world / "model"), "CONVERSATIONS": str(world / "conversations.jsonl")}
    assert_one_line_error(callama(*(places.get(a, a) for a in arguments)), *words)
    assert not Path("o").exists()


def test_a_full_round_through_json(callama: Callama, world: Path, tmp_path: Path) -> None:
    """synth, build, train, merge, evaluate: each prints one JSON object as its last line."""
    synth = callama("synth", "--out", "data", "--count", "12", "--held-out-count", "4", "--json")
    assert synth.status == 0
    assert {name: sum(counts.values()) for name, counts in synth.last_json.items()} == {
        "train.jsonl": 12, "held_out.jsonl": 4
    }  # fmt: skip
    build = callama("build", world / "conversations.jsonl", "--tokenizer", world / "model", "--out", "built", "--json")
    assert (build.status, build.last_json["read"]) == (0, 40)
    assert build.last_json == json.loads(Path("built/metadata.json").read_text())
    values = tiny.settings(world, Path("checkpoints"), train__dataset_sources=["built/train.arrow"])
    config = tiny.write_settings(tmp_path / "config.json", values)
    trained = callama("train", config, "train.gradient_accumulation_steps=2", "lora_config.lora_rank=2", "--json")
    assert trained.status == 0 and trained.last_json["step"] == trained.last_json["total_steps"] < 8
    saved = json.loads((Path(trained.last_json["checkpoint"]) / "config.json").read_text())
    assert (saved["train"]["gradient_accumulation_steps"], saved["lora_config"]["lora_rank"]) == (2, 2)
    again = callama("train", config, "--json")
    assert_one_line_error(again, "--resume", "--fresh")
    finished = callama(
        "train", config, "train.gradient_accumulation_steps=2", "lora_config.lora_rank=2", "--resume", "--json"
    )
    assert finished.last_json["checkpoint"] == trained.last_json["checkpoint"]
    merged = callama("merge", world / "model", "checkpoints/job", "merged", "--json")
    assert (merged.status, merged.last_json["kind"]) == (0, "native checkpoint")
    assert read_manifest(Path("merged"))["files"] == merged.last_json["files"]
    arguments = ["evaluate", world / "conversations.jsonl", "--model", "merged", "--base", world / "model",
                 "--limit", "3", "--max-new-tokens", "5", "--out", "report.json", "--json"]  # fmt: skip
    report = callama(*arguments)
    assert report.status == 0 and report.last_json == json.loads(Path("report.json").read_text())
    assert report.last_json["tuned"]["exact_call"]["count"] == 3
    unmerged = callama("evaluate", world / "conversations.jsonl", "--model", world / "model",
                       "--adapter", "checkpoints/job", "--constrained", "--limit", "2",
                       "--max-new-tokens", "5", "--json")  # fmt: skip
    assert unmerged.status == 0 and unmerged.last_json["decoding"]["constrained"] is True
    assert unmerged.last_json["tuned"]["malformed"]["count"] == 3, "answers in the first two conversations"


def test_summaries_for_people(callama: Callama, world: Path, trained: Path) -> None:
    build = callama("build", world / "conversations.jsonl", "--tokenizer", world / "model", "--out", "built")
    assert "built: read 40, dropped 0" in build.out and "functions on both sides: 0" in build.out
    config = tiny.write_settings(Path("c.json"), tiny.settings(world, trained.parent))
    done = callama("train", config, "--fresh")
    assert "8 steps in" in done.out and f"checkpoint: {trained / 'step_000008'}" in done.out
    assert "step 8/8" in done.err and "step 8/8" not in done.out
    assert f"checkpoint: {trained / 'step_000008'}" in callama("train", config, "--resume").out
    assert callama("merge", world / "model", trained, "merged").out.endswith("\nmerged: merged\n")
    shown = callama("evaluate", world / "conversations.jsonl", "--model", "merged", "--limit", "2",
                    "--max-new-tokens", "4", "--examples", "1")  # fmt: skip
    assert shown.status == 0 and "exact_call" in shown.out and "wanted" in shown.out
    assert "the wanted calls of 2 of 3 cases are longer than --max-new-tokens 4" in shown.err


def test_chat_until_an_empty_line(callama: Callama, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["Hello there.", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(said))
    done = callama("chat", world / "model", "--max-new-tokens", "4", "--device", "cpu")
    assert done.status == 0
    assert "get_current_weather" in done.out and done.out.count("model> ") + done.out.count("broken call") == 1


def test_the_console_script_in_its_own_process(run: Run, tmp_path: Path) -> None:
    done = run("callama", "build", "none.jsonl", "--tokenizer", "none", "--out", "o")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_evaluate_and_compare_for_people(callama: Callama, world: Path) -> None:
    Path("plain.txt").write_text("The weather in Oslo is 7. The tide in Cork is 7.")
    model = world / "model"
    shown = callama("evaluate", "--suite", world / "conversations.jsonl", "--model", model, "--base", model, "--limit",
                    "3", "--max-new-tokens", "4", "--text", "plain.txt", "--out", "report.json")  # fmt: skip
    assert shown.status == 0 and "McNemar's exact p = 1" in shown.out and "perplexity of tuned" in shown.out
    compared = callama("compare", "report.json", "--html", "page.html")
    assert compared.status == 0 and "right turns by suite" in compared.out and Path("page.html").stat().st_size > 5000
    counts = callama("compare", "report.json", "--json").last_json
    assert (counts["cases"], counts["worse"], counts["better"], counts["p"]) == (4, [], [], 1.0)
    suite = ["evaluate", "--suite", "bfcl:simple_python", "--model", world / "model"]
    assert_one_line_error(callama(*suite), "callama pull bfcl")


def test_labels_and_names_are_text_and_a_report_is_written_before_it_is_shown(callama: Callama, world: Path) -> None:
    conversation = replace(tiny.conversation(1), labels={"scenario": "[/b]"})
    suite = tiny.write_conversations(Path("a[v2].jsonl"), [conversation, tiny.conversation(2)])
    shown = callama("evaluate", suite, "--model", world / "model", "--max-new-tokens", "4", "--out", "report.json")
    assert shown.status == 0 and "a[v2].jsonl" in shown.out and "right turn: [/b]" in shown.out
    Path("report.json").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("callama.cli.evaluate._print", gone)
        callama("evaluate", suite, "--model", world / "model", "--max-new-tokens", "4", "--out", "report.json")
    assert Path("report.json").is_file()
    compared = callama("compare", "report.json", "report.json")
    assert compared.status == 0 and "[/b]" in compared.out


def gone(*_: object) -> None:
    raise OSError(errno.EIO, "nobody reads")


def test_a_count_that_nobody_can_mean_is_refused(callama: Callama) -> None:
    done = callama("synth", "--out", "o", "--count", "99999999999999999999")
    assert done.status == 2
    assert "--count" in done.err
    assert not Path("o").exists()
