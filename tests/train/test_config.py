"""The configuration file: the original's keys all accepted, everything else refused with help."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import UsageError
from callama.model.lora import ALL_LINEAR, QV_ONLY
from callama.model.params import ModelParams
from callama.train.config import TrainConfig, load_config
from tests.train.conftest import Configure

REPO = Path(__file__).resolve().parents[2]


def original() -> dict[str, Any]:
    """Every key of the original project's ``configs/finetune.json``."""
    return {
        "name": "llama3_function_calling",
        "tokenizer_file": "./models/m/tokenizer.model",
        "model_ckpt_file": "./models/m/consolidated.pth",
        "seed": 3,
        "steps_per_print": 10,
        "model_config": {
            "dim": 4096,
            "n_layers": 32,
            "n_heads": 32,
            "n_kv_heads": 8,
            "vocab_size": 128256,
            "multiple_of": 1024,
            "ffn_dim_multiplier": 1.3,
            "norm_eps": 1e-05,
            "rope_theta": 500000.0,
            "max_batch_size": 32,
            "max_seq_len": 1024,
            "use_cache": False,
            "embed_dropout": 0.1,
            "attention_dropout": 0.1,
            "hidden_dropout": 0.1,
        },
        "lora_config": {
            "lora_rank": 32,
            "lora_scaling": 1.0,
            "lora_dropout": 0.0,
            "train_bias": "none",
            "train_embedding": False,
            "train_qv_only": True,
        },
        "optimizer": {"lr": 1e-5, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "fused": True},
        "scheduler": {"min_lr": 1e-5, "max_lr": 3e-4, "warmup_num_steps": 200, "total_num_steps": 5000},
        "checkpoint": {"enabled": True, "save_interval": 200, "output_path": "./checkpoints/", "job_name": "llama3_fc"},
        "tensorboard": {"enabled": True, "output_path": "./logs/", "job_name": "llama3_fc"},
        "train": {
            "num_epochs": 2,
            "train_bias": "none",
            "micro_batch_size": 2,
            "gradient_accumulation_steps": 16,
            "gradient_clipping": 1.0,
            "dataset_sources": ["./datasets/d/train.arrow"],
        },
        "validation": {
            "enabled": True,
            "interval": 200,
            "steps": 50,
            "batch_size": 4,
            "dataset_sources": ["./datasets/d/validation.arrow"],
        },
    }


def write(folder: Path, values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return path


def normal(value: Any) -> Any:
    """As JSON would say it, with paths in one spelling."""
    if isinstance(value, dict):
        return {key: normal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [normal(inner) for inner in value]
    return str(Path(value)) if isinstance(value, str) and value.startswith("./") else value


def assert_within(given: dict[str, Any], saved: dict[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(value, dict):
            assert_within(value, saved[key])
        else:
            assert saved[key] == value, key


def test_every_key_of_the_original_is_accepted_and_kept(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, original()))
    assert_within(normal(original()), config.saved())
    assert config.lora.params().layers == QV_ONLY
    assert (config.model.dropout().embed, config.model.dropout().attention, config.model.dropout().hidden) == (0.1,) * 3


def test_what_was_in_force_can_be_loaded_again(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, original()))
    assert load_config(write(tmp_path, config.saved())) == config


def test_the_shape_leaves_out_settings_of_the_run(tmp_path: Path) -> None:
    shape = load_config(write(tmp_path, original())).model.shape()
    assert shape == {key: original()["model_config"][key] for key in shape}
    assert set(shape) == set(ModelParams.__dataclass_fields__) - {"use_scaled_rope", "rope_scale_factor", "max_seq_len"}


SECTIONS = ["", "model_config", "lora_config", "optimizer", "scheduler", "checkpoint", "tensorboard", "train",
            "validation"]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_is_refused_with_the_known_ones(tmp_path: Path, section: str) -> None:
    values = original()
    node = values[section] if section else values
    known = list(node)
    node["no_such_key"] = 1
    with pytest.raises(UsageError) as caught:
        load_config(write(tmp_path, values))
    message = str(caught.value)
    assert f"unknown key '{section}.no_such_key'".replace("'.", "'") in message and "config.json" in message
    assert all(key in message.partition("known here are")[2] for key in known)


@pytest.mark.parametrize(
    ("argument", "meant"),
    [("train.micro_batchsize=4", "micro_batch_size"), ("schedular.max_lr=1e-3", "scheduler"),
     ("lora_config.rank=8", "lora_rank"), ("model_config.max_seqlen=9", "max_seq_len")],
)  # fmt: skip
def test_a_slip_of_the_pen_is_recognised(tmp_path: Path, argument: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        load_config(write(tmp_path, original()), [argument])


def test_overrides_reach_every_depth(tmp_path: Path) -> None:
    arguments = ["train.micro_batch_size=4", "seed=7", "scheduler.max_lr=5e-4", "name=other", "checkpoint.keep=3",
                 'train.dataset_sources=["a.arrow"]', "validation.enabled=false"]  # fmt: skip
    config = load_config(write(tmp_path, original()), arguments)
    assert (config.train.micro_batch_size, config.seed, config.scheduler.max_lr, config.name) == (4, 7, 5e-4, "other")
    assert (config.checkpoint.keep, config.train.dataset_sources) == (3, [Path("a.arrow")])
    assert not config.validation.enabled


@pytest.mark.parametrize("typed", ["1e-4", "0.10", "0.1", "007", "true", "NaN", "7", "8b", '"7"'])
def test_a_name_stays_as_it_was_typed(tmp_path: Path, typed: str) -> None:
    names = [f"{key}={typed}" for key in ("name", "checkpoint.job_name", "checkpoint.output_path", "tokenizer_file")]
    config = load_config(write(tmp_path, original()), [*names, "scheduler.max_lr=1e-4", "seed=7"])
    name = typed.strip('"')
    assert (config.name, config.checkpoint.folder, config.tokenizer_file) == (name, Path(name, name), Path(name))
    assert (config.scheduler.max_lr, config.seed) == (1e-4, 7)
    assert config.changed(f"name={typed}").name == name
    assert load_config(write(tmp_path, original()), ["tokenizer_file=null"]).tokenizer_file is None


def test_a_leading_tilde_is_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    values = original() | {"model_ckpt_file": "~/m.pth"}
    values["train"]["dataset_sources"] = ["~/a.arrow", "b~/c.arrow"]
    config = load_config(
        write(tmp_path, values), ["checkpoint.output_path=~/ck", "tensorboard.output_path=~", "name=~"]
    )
    assert (config.model_ckpt_file, config.checkpoint.output_path) == (tmp_path / "m.pth", tmp_path / "ck")
    assert config.train.dataset_sources == [tmp_path / "a.arrow", Path("b~/c.arrow")]
    assert (config.tensorboard.output_path, config.name) == (tmp_path, "~")
    nobody = load_config(write(tmp_path, original()), ["checkpoint.output_path=~no-such-user/x"])
    assert nobody.checkpoint.output_path == Path("~no-such-user/x")


def test_an_override_may_open_a_section(tmp_path: Path) -> None:
    values = {k: v for k, v in original().items() if k in ("model_ckpt_file", "train")}
    assert load_config(write(tmp_path, values), ["lora_config.lora_rank=8"]).lora.lora_rank == 8


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.micro_batch_size", "is not key=value; example"),
        ("=4", "is not key=value"),
        ("seed.deeper=4", "seed is not a section"),
        ("train.dataset_sources.0=a", "dataset_sources is not a section"),
        ("train.micro_batch_size=0", "train.micro_batch_size: .*greater than 0, found 0"),
        ("train.micro_batch_size=many", 'train.micro_batch_size: expected a whole number, found "many"; for example'),
        ("model_config.hidden_dropout=1", "model_config.hidden_dropout"),
        ("lora_config.train_bias=all", "lora_config.train_bias"),
        ("scheduler.max_lr=NaN", "scheduler.max_lr"),
        ("optimizer.betas=[0.9,1]", "optimizer.betas.1: .*below 1, found 1"),
        ("device=tpu", 'device: expected one of "auto", "cpu", "cuda", found "tpu"'),
        ("train.dataset_sources=[]", "train.dataset_sources: expected a list with at least 1"),
    ],
)
def test_impossible_overrides_are_wrong_use(tmp_path: Path, argument: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(write(tmp_path, original()), [argument])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["scheduler.min_lr=0.01"], r"min_lr is 0\.01, above scheduler\.max_lr, which is 0\.0003; .*lower the"),
        (["scheduler.max_lr=1e-6"], r"scheduler\.min_lr is 1e-05, above scheduler\.max_lr, which is 1e-06"),
        (["validation.patience=1"], r"^validation\.patience needs .* validation\.dataset_sources is empty; name"),
        (["validation.questions=5", "validation.best_by=calls"],
         r"validation\.questions and validation\.best_by need .* set validation\.enabled=false"),
        (["validation.best_by=calls"], r"^validation\.best_by needs .* set validation\.enabled=false"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_by_name(tmp_path: Path, changes: list[str], message: str) -> None:
    bare = [*changes, "validation.dataset_sources=[]"]
    with pytest.raises(UsageError, match=message):
        load_config(write(tmp_path, original()), bare).require_possible()


SOURCE = 'validation.dataset_sources=["a.arrow"]'


@pytest.mark.parametrize("change", ["validation.enabled=false", SOURCE])
def test_questions_are_possible_with_data_and_where_validation_is_off(tmp_path: Path, change: str) -> None:
    asking = ["validation.dataset_sources=[]", "validation.questions=5", "validation.patience=2", change]
    load_config(write(tmp_path, original()), asking).require_possible()


def test_best_by_calls_is_possible_where_validation_is_off(tmp_path: Path) -> None:
    """As the refusal of it advises."""
    by_calls = "validation.best_by=calls"
    load_config(write(tmp_path, original()), [by_calls, "validation.enabled=false"]).require_possible()
    with pytest.raises(UsageError, match=r"best_by is 'calls' and validation\.questions is 0; ask 32"):
        load_config(write(tmp_path, original()), [by_calls, SOURCE]).require_possible()


@pytest.mark.parametrize(
    ("key", "message"), [("model_ckpt_file", "the key 'model_ckpt_file' is missing"), ("train", "'train' is missing")]
)
def test_what_has_no_default_must_be_there(tmp_path: Path, key: str, message: str) -> None:
    values = original()
    del values[key]
    with pytest.raises(UsageError, match=message):
        load_config(write(tmp_path, values))


def test_what_is_missing_is_shown_by_example(tmp_path: Path) -> None:
    values = original()
    del values["train"]
    with pytest.raises(UsageError, match=r"missing; for example \"train\": .*dataset_sources.*train\.arrow"):
        load_config(write(tmp_path, values))


def test_the_file_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json does not exist"):
        load_config(tmp_path / "none.json")
    with pytest.raises(UsageError, match="must hold a JSON object"):
        load_config(write(tmp_path, []))


def test_the_shipped_configurations() -> None:
    llama = load_config(REPO / "configs" / "finetune.json")
    assert llama.model.dropout() == load_config(REPO / "configs" / "demo.json").model.dropout()
    assert (llama.model.embed_dropout, llama.lora.lora_dropout) == (0.0, 0.0)
    assert llama.lora.params().layers == ALL_LINEAR
    raw = json.loads((REPO / "configs" / "finetune.json").read_text())
    paths = [raw["tokenizer_file"], raw["model_ckpt_file"], *raw["train"]["dataset_sources"],
             *raw["validation"]["dataset_sources"]]  # fmt: skip
    assert all(path.startswith("./") for path in paths)
    assert set(raw) - {"hardware"} == set(original()) <= {f.alias or n for n, f in TrainConfig.model_fields.items()}


@pytest.mark.parametrize(
    "change", ["scheduler.max_lr=true", "validation.questions=true", "train.gradient_clipping=false", "seed=true",
               "train.max_minutes=true", "lora_config.lora_rank=true"],
)  # fmt: skip
def test_a_flag_is_no_number(configure: Configure, tmp_path: Path, change: str) -> None:
    configure()
    key, _, value = change.partition("=")
    with pytest.raises(UsageError, match=rf"{re.escape(key)}.*expected a number, found {value}"):
        load_config(tmp_path / "config.json", [change])
