"""The original project's ``configs/ds_finetune.json``, whose ``deepspeed_config`` is laid out as DeepSpeed
wants it. Every key is accepted under its name and becomes one of ``TrainConfig``; what has no
effect here is named, so that nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from callama.common.files import read_json
from callama.train.config import (
    Beta,
    CheckpointSection,
    HardwareSection,
    LoRASection,
    ModelSection,
    OptimizerSection,
    SchedulerSection,
    Section,
    TensorBoardSection,
    TrainConfig,
    TrainSection,
    ValidationSection,
    ZeroSection,
    load_config,
    read_settings,
)

# Where ``TrainConfig``'s keys stand in such a file; a section's name ends in a dot.
_SPELLING = {
    "train.micro_batch_size": "deepspeed_config.train_micro_batch_size_per_gpu",
    "train.gradient_accumulation_steps": "deepspeed_config.gradient_accumulation_steps",
    "train.gradient_clipping": "deepspeed_config.gradient_clipping",
    "dtype": "deepspeed_config.bf16",
    "dtype=bf16": "deepspeed_config.bf16.enabled=true",
    "optimizer.": "deepspeed_config.optimizer.params.",
    "scheduler.min_lr": "deepspeed_config.scheduler.params.warmup_min_lr",
    "scheduler.max_lr": "deepspeed_config.scheduler.params.warmup_max_lr",
    "scheduler.": "deepspeed_config.scheduler.params.",
    "checkpoint.enabled": "deepspeed_config.checkpoint.save",
    "checkpoint.": "deepspeed_config.checkpoint.",
    "zero_optimization.": "deepspeed_config.zero_optimization.",
}


class _Enabled(Section):
    enabled: bool = False


class _AdamParams(Section):
    lr: float | None = Field(default=None, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)


class _Optimizer(Section):
    type: Literal["Adam", "AdamW"] = "AdamW"
    params: _AdamParams = Field(default_factory=_AdamParams)


class _WarmupParams(Section):
    warmup_min_lr: float = Field(default=1e-5, ge=0)
    warmup_max_lr: float = Field(default=2e-4, gt=0)
    warmup_num_steps: int = Field(default=200, ge=0)
    total_num_steps: int | None = Field(default=None, gt=0)


class _Scheduler(Section):
    type: Literal["WarmupDecayLR"] = "WarmupDecayLR"
    params: _WarmupParams = Field(default_factory=_WarmupParams)


class _Checkpoint(Section):
    save: bool = True
    save_interval: int = Field(default=200, gt=0)
    output_path: Path = Path("./checkpoints")
    job_name: str = Field(default="ds_callama", min_length=1)
    keep: int = Field(default=2, gt=0)  # callama's


class _DeepSpeed(Section):
    """An optimizer step sees ``gradient_accumulation_steps`` micro-batches of every process."""

    train_micro_batch_size_per_gpu: int = Field(default=2, gt=0)
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    steps_per_print: int = Field(default=10, gt=0)
    gradient_clipping: float = Field(default=1.0, ge=0)
    bf16: _Enabled = Field(default_factory=_Enabled)
    optimizer: _Optimizer = Field(default_factory=_Optimizer)
    scheduler: _Scheduler = Field(default_factory=_Scheduler)
    zero_optimization: ZeroSection
    activation_checkpointing: dict[str, Any] | None = None  # DeepSpeed's keys, all without effect here
    checkpoint: _Checkpoint = Field(default_factory=_Checkpoint)
    tensorboard: TensorBoardSection = Field(default_factory=TensorBoardSection)
    wall_clock_breakdown: bool = False


class _Train(Section):
    dataset_sources: list[Path] = Field(min_length=1)
    num_epochs: int = Field(default=1, gt=0)
    max_minutes: float | None = Field(default=None, gt=0)  # callama's
    recompute: bool = False  # callama's


class DsConfig(Section):
    """The file as a whole."""

    name: str = "callama"
    model_ckpt_file: Path
    tokenizer_file: Path | None = None
    seed: int = Field(default=3, ge=0, lt=2**63)
    device: Literal["auto", "cpu", "cuda"] = "auto"  # callama's
    method: Literal["lora", "qlora", "full"] = "lora"  # callama's
    check_memory: bool = True  # callama's
    hardware: HardwareSection = Field(default_factory=HardwareSection)  # callama's
    model: ModelSection = Field(default_factory=ModelSection, alias="model_config")
    lora: LoRASection = Field(default_factory=LoRASection, alias="lora_config")
    deepspeed: _DeepSpeed = Field(alias="deepspeed_config")
    train: _Train
    validation: ValidationSection = Field(default_factory=ValidationSection)

    def without_effect(self) -> list[str]:
        """Sentences about keys that are set and change nothing."""
        found = []
        if self.deepspeed.activation_checkpointing is not None:
            found.append("deepspeed_config.activation_checkpointing has no effect: train.recompute decides")
        if self.deepspeed.wall_clock_breakdown:
            found.append("deepspeed_config.wall_clock_breakdown has no effect")
        if "type" in self.deepspeed.scheduler.model_fields_set:
            found.append("deepspeed_config.scheduler.type has no effect: the rate falls as a cosine")
        return found

    def plain(self) -> TrainConfig:
        """The same settings as the loop knows them."""
        ds = self.deepspeed
        rates = ds.scheduler.params
        return TrainConfig(
            name=self.name,
            model_ckpt_file=self.model_ckpt_file,
            tokenizer_file=self.tokenizer_file,
            seed=self.seed,
            steps_per_print=ds.steps_per_print,
            device=self.device,
            method=self.method,
            check_memory=self.check_memory,
            hardware=self.hardware,
            dtype="bf16" if ds.bf16.enabled else "fp32",
            model_config=self.model,
            lora_config=self.lora,
            optimizer=OptimizerSection(**ds.optimizer.params.model_dump()),
            scheduler=SchedulerSection(
                min_lr=rates.warmup_min_lr,
                max_lr=rates.warmup_max_lr,
                warmup_num_steps=rates.warmup_num_steps,
                total_num_steps=rates.total_num_steps,
            ),
            checkpoint=CheckpointSection(enabled=ds.checkpoint.save, **ds.checkpoint.model_dump(exclude={"save"})),
            tensorboard=ds.tensorboard,
            train=TrainSection(
                micro_batch_size=ds.train_micro_batch_size_per_gpu,
                gradient_accumulation_steps=ds.gradient_accumulation_steps,
                gradient_clipping=ds.gradient_clipping,
                **self.train.model_dump(),
            ),
            validation=self.validation,
            zero_optimization=ds.zero_optimization,
        ).spelled_as(_SPELLING)


def load_ds_config(path: Path, overrides: Sequence[str] = ()) -> DsConfig:
    """Reads a configuration in the original's layout and applies ``key=value`` overrides.

    Raises:
        UsageError: the file is missing, a key is unknown or missing, or a value is impossible.
    """
    return read_settings(DsConfig, path, overrides)


def load_any_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a configuration of either layout: ``deepspeed_config`` tells them apart.

    Raises:
        UsageError: as ``load_config``.
    """
    raw = read_json(path, "a training configuration")
    if isinstance(raw, dict) and "deepspeed_config" in raw:
        return load_ds_config(path, overrides).plain()
    return load_config(path, overrides)
