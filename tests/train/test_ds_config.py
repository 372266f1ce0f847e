"""The original's second configuration file: every key accepted, translated or named as without effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import UsageError
from callama.train.config import load_config
from callama.train.ds_config import load_any_config, load_ds_config
from callama.train.estimate import estimate
from callama.train.out_of_memory import what_takes_less

REPO = Path(__file__).resolve().parents[2]


def original() -> dict[str, Any]:
    """Every key of the original's file."""
    return {
        "name": "llama3_function_calling",
        "tokenizer_file": "./tokenizer.model",
        "model_ckpt_file": "./consolidated.pth",
        "seed": 3,
        "model_config": {
            "dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "multiple_of": 1024,
            "ffn_dim_multiplier": 1.3, "norm_eps": 1e-05, "rope_theta": 500000.0, "max_batch_size": 32,
            "max_seq_len": 1024, "use_cache": False, "embed_dropout": 0.1, "attention_dropout": 0.1,
            "hidden_dropout": 0.1,
        },
        "lora_config": {
            "lora_rank": 32, "lora_scaling": 1.0, "lora_dropout": 0.0, "train_bias": "none",
            "train_embedding": False, "train_qv_only": True,
        },
        "deepspeed_config": {
            "train_micro_batch_size_per_gpu": 2,
            "gradient_accumulation_steps": 16,
            "steps_per_print": 10,
            "gradient_clipping": 1.0,
            "bf16": {"enabled": True},
            "optimizer": {
                "type": "Adam", "params": {"lr": 1e-5, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
            },
            "scheduler": {
                "type": "WarmupDecayLR",
                "params": {
                    "warmup_min_lr": 1e-5, "warmup_max_lr": 2e-4, "warmup_num_steps": 200, "total_num_steps": 5000
                },
            },
            "zero_optimization": {
                "stage": 2, "contiguous_gradients": True, "overlap_comm": True, "allgather_partitions": True,
                "allgather_bucket_size": 1e6, "reduce_scatter": True, "reduce_bucket_size": 1e6,
                "offload_optimizer": {"device": "cpu", "pin_memory": False},
            },
            "activation_checkpointing": {
                "partition_activations": False, "cpu_checkpointing": True, "contiguous_memory_optimization": True,
                "number_checkpoints": None, "synchronize_checkpoint_boundary": False, "profile": False,
            },
            "checkpoint": {"save": True, "save_interval": 200, "output_path": "./ckpt/", "job_name": "ds_llama3_fc"},
            "tensorboard": {"enabled": True, "output_path": "./logs/", "job_name": "ds_llama3_fc"},
            "wall_clock_breakdown": False,
        },
        "train": {"num_epochs": 2, "dataset_sources": ["./train.arrow"]},
        "validation": {
            "enabled": True, "interval": 200, "steps": 50, "batch_size": 4, "dataset_sources": ["./validation.arrow"]
        },
    }  # fmt: skip


def write(folder: Path, value: Any) -> Path:
    path = folder / "ds.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_every_key_of_the_original_is_accepted(tmp_path: Path) -> None:
    ds = load_ds_config(write(tmp_path, original()))
    config = ds.plain()
    assert (config.train.micro_batch_size, config.train.gradient_accumulation_steps, config.train.num_epochs) == (
        2,
        16,
        2,
    )
    assert (config.scheduler.min_lr, config.scheduler.max_lr, config.scheduler.total_num_steps) == (1e-5, 2e-4, 5000)
    assert (config.scheduler.warmup_num_steps, config.steps_per_print, config.dtype) == (200, 10, "bf16")
    assert (config.checkpoint.folder, config.tensorboard.folder) == (
        Path("ckpt/ds_llama3_fc"),
        Path("logs/ds_llama3_fc"),
    )
    assert config.zero is not None and config.zero.stage == 2
    assert config.zero.offload_optimizer is not None and config.zero.offload_optimizer.device == "cpu"
    assert (config.model.hidden_dropout, config.lora.train_qv_only, config.validation.batch_size) == (0.1, True, 4)
    said = " ".join(ds.without_effect())
    assert "activation_checkpointing" in said and "scheduler.type" in said


def test_any_key_is_taken_where_none_has_an_effect(tmp_path: Path) -> None:
    value = original()
    value["deepspeed_config"]["activation_checkpointing"]["a_key_of_a_later_deepspeed"] = 1
    assert "activation_checkpointing" in " ".join(load_ds_config(write(tmp_path, value)).without_effect())


def test_what_was_in_force_can_be_loaded_again(tmp_path: Path) -> None:
    config = load_ds_config(write(tmp_path, original())).plain()
    assert load_config(write(tmp_path, config.saved())).saved() == config.saved()


def test_advice_names_the_keys_of_this_file(tmp_path: Path) -> None:
    """Each of them can be given as an argument and then changes what it says."""
    file = write(tmp_path, original())
    config = load_ds_config(file, ["deepspeed_config.bf16.enabled=false"]).plain()
    said = what_takes_less(config)
    assert (
        "deepspeed_config.train_micro_batch_size_per_gpu=1 with deepspeed_config.gradient_accumulation_steps=32" in said
    )
    assert "deepspeed_config.bf16.enabled=true" in said and "model_config.max_seq_len" in said
    keys = ("train.gradient_clipping", "scheduler.max_lr", "scheduler.total_num_steps", "optimizer.eps",
            "zero_optimization.stage", "zero_optimization.offload_optimizer.pin_memory")  # fmt: skip
    for key in keys:
        *sections, last = key.split(".")
        value = load_ds_config(file, [f"{config.spelled(key)}=1"]).plain().saved()
        for section in sections:
            value = value[section]
        assert value[last] == 1, key
    assert config.spelled("the newest checkpoint") == "the newest checkpoint"


def test_refusals_name_the_keys_of_this_file(tmp_path: Path) -> None:
    stage_3 = ["method=qlora", "deepspeed_config.zero_optimization.stage=3"]
    with pytest.raises(UsageError, match=r"deepspeed_config\.zero_optimization\.stage is 3, which cannot part"):
        load_ds_config(write(tmp_path, original()), stage_3).plain().require_possible()
    small = ["hardware.memory_gib=30", "deepspeed_config.train_micro_batch_size_per_gpu=8"]
    found = estimate(load_any_config(REPO / "configs" / "ds_finetune.json", small))
    assert found.changes[0] == (
        "deepspeed_config.train_micro_batch_size_per_gpu=1 deepspeed_config.gradient_accumulation_steps=64"
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "deepspeed_config.bf61.enabled=true",
            "unknown key 'deepspeed_config.bf61' .did you mean 'bf16'..; known here",
        ),
        ("deepspeed_config.zero_optimization.stages=3", "'stage'.*known here are stage, offload_optimizer"),
        ("deepspeed_config.zero_optimization.stage=4", "deepspeed_config.zero_optimization.stage: .*found 4"),
        ("train.micro_batch_size=2", "unknown key 'train.micro_batch_size'.*known here are dataset_sources"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, argument: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_ds_config(write(tmp_path, original()), [argument])


def test_the_shipped_configurations_load() -> None:
    stages = {
        name: load_ds_config(REPO / "configs" / f"{name}.json").plain().zero
        for name in ("ds_finetune", "ds_llama3_70b")
    }
    assert [zero.stage for zero in stages.values() if zero] == [2, 3]
    for name in ("llama3_8b_24gb", "llama3_8b_80gb"):
        assert load_config(REPO / "configs" / f"{name}.json").zero is None


def test_the_other_front_door_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"start it with: deepspeed --num_gpus=1 ds_finetune\.py --config-file"):
        load_config(write(tmp_path, original()))
