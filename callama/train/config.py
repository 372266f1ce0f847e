"""The settings of a run: one JSON file, checked key by key, overridden by ``key=value`` arguments.

Every key of the original project's ``configs/finetune.json`` is accepted under its own name; keys
that are callama's own say so in their comment. Unknown keys are errors that list the known ones.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from callama.common.errors import UsageError
from callama.common.explain import explain, takes_text
from callama.common.files import read_json
from callama.common.places import at_home
from callama.model.lora import ALL_LINEAR, QV_ONLY, LoRAParams
from callama.model.transformer import Dropout

_KEY = re.compile(r"[a-z_]\w*(?:\.[a-z_]\w*)*(?:=bf16)?")


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False, coerce_numbers_to_str=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``true`` is no 1: whoever writes it means to turn something on."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"expected a number, found {str(value).lower()}")
        return value

    @field_validator("*")
    @classmethod
    def _at_home(cls, value: Any) -> Any:
        """No shell expands the ``~`` of a path in a file or behind ``key=``."""
        if isinstance(value, list):
            return [at_home(item) if isinstance(item, Path) else item for item in value]
        return at_home(value) if isinstance(value, Path) else value


class ModelSection(Section):
    """The model's shape. Optional: ``params.json`` beside the weights knows it, and any shape given
    here must agree with it. ``max_seq_len`` and the dropouts are settings of the run."""

    dim: int | None = None
    n_layers: int | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    vocab_size: int | None = None
    multiple_of: int | None = None
    ffn_dim_multiplier: float | None = None
    norm_eps: float | None = None
    rope_theta: float | None = None
    use_scaled_rope: bool | None = None
    max_seq_len: int = Field(default=1024, gt=1)  # tokens of one packed sequence; no conversation may be longer
    max_batch_size: int | None = None  # of generation in the original; training has no use for it
    use_cache: bool = False  # likewise
    embed_dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    hidden_dropout: float = Field(default=0.0, ge=0, lt=1)

    def dropout(self) -> Dropout:
        """The model's dropouts."""
        return Dropout(self.embed_dropout, self.attention_dropout, self.hidden_dropout)

    def shape(self) -> dict[str, Any]:
        """The keys that describe the model and were given."""
        given = self.model_dump(exclude_none=True)
        run = ("max_seq_len", "max_batch_size", "use_cache", "embed_dropout", "attention_dropout", "hidden_dropout")
        return {key: value for key, value in given.items() if key not in run}


class LoRASection(Section):
    """LoRA: ``lora_scaling`` is alpha / rank. Not read where ``method`` is ``full``."""

    lora_rank: int = Field(default=32, gt=0)
    lora_scaling: float = Field(default=1.0, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    train_bias: Literal["none"] = "none"  # Llama has no biases
    train_embedding: Literal[False] = False
    train_qv_only: bool = False
    use_rslora: bool = False  # callama's, as PEFT calls it: the update is scaled by alpha / sqrt(rank)
    use_dora: bool = False  # likewise: lengths of rows are trained on their own

    def params(self) -> LoRAParams:
        """What ``add_lora`` wants."""
        layers = QV_ONLY if self.train_qv_only else ALL_LINEAR
        scaling = self.lora_scaling * (math.sqrt(self.lora_rank) if self.use_rslora else 1.0)
        return LoRAParams(self.lora_rank, scaling, self.lora_dropout, layers, self.use_rslora, self.use_dora)

    def original(self) -> dict[str, Any]:
        """What the original project's ``lora.json`` says of it; it knows one scaling, the one that multiplies."""
        own = {"use_rslora", "use_dora"}
        return {**self.model_dump(exclude=own), "lora_scaling": self.params().scaling}


Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSection(Section):
    """AdamW. The rate itself follows ``scheduler``; ``lr`` is read for the original's sake."""

    lr: float | None = Field(default=None, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    fused: bool = True


class SchedulerSection(Section):
    """Linear warm-up from ``min_lr`` to ``max_lr``, cosine back to ``min_lr`` at ``total_num_steps``
    (default: the steps of the run), whether the run has as many or not."""

    min_lr: float = Field(default=1e-5, ge=0)
    max_lr: float = Field(default=3e-4, gt=0)
    warmup_num_steps: int = Field(default=20, ge=0)
    total_num_steps: int | None = Field(default=None, gt=0)


class OutputSection(Section):
    """Where something is written: ``output_path/job_name``."""

    enabled: bool = True
    output_path: Path
    job_name: str = Field(default="callama", min_length=1)

    @property
    def folder(self) -> Path:
        """``output_path/job_name``."""
        return self.output_path / self.job_name


class CheckpointSection(OutputSection):
    """Checkpoints every ``save_interval`` steps and at the end; the newest ``keep`` stay."""

    output_path: Path = Path("./checkpoints")
    save_interval: int = Field(default=200, gt=0)
    keep: int = Field(default=2, gt=0)  # callama's


class TensorBoardSection(OutputSection):
    """Event files for ``tensorboard --logdir``."""

    output_path: Path = Path("./logs")


class TrainSection(Section):
    """An optimizer step sees ``gradient_accumulation_steps`` micro-batches of ``micro_batch_size``
    packed sequences each."""

    dataset_sources: list[Path] = Field(min_length=1, examples=[["./datasets/demo-built/train.arrow"]])
    num_epochs: int = Field(default=1, gt=0)
    train_bias: Literal["none"] = "none"
    micro_batch_size: int = Field(default=2, gt=0)
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    gradient_clipping: float = Field(default=1.0, ge=0)  # 0: no clipping
    max_minutes: float | None = Field(default=None, gt=0, examples=[10])  # callama's: shortens the schedule to fit
    recompute: bool = False  # callama's: keeps only the inputs of blocks for the way back; slower, in less memory


class ValidationSection(Section):
    """Loss on held-out conversations every ``interval`` steps, over ``steps`` batches of ``batch_size``
    packed sequences, and the share of right answers to ``questions`` of them."""

    enabled: bool = True
    dataset_sources: list[Path] = Field(default=[], examples=[["./datasets/demo-built/validation.arrow"]])
    interval: int = Field(default=200, gt=0)
    steps: int = Field(default=50, gt=0)
    batch_size: int = Field(default=2, gt=0)
    questions: int = Field(default=0, ge=0)  # callama's: answers that the model writes at each validation
    best_by: Literal["loss", "calls"] = "loss"  # callama's: what makes a checkpoint the best
    patience: int | None = Field(default=None, gt=0)  # callama's: validations without a better one before it ends

    def without_data(self) -> list[str]:
        """Keys that are set and can do nothing, because there is nothing to validate on though it is enabled."""
        if not self.enabled or self.dataset_sources:
            return []
        given = {"questions": self.questions > 0, "best_by": self.best_by == "calls", "patience": self.patience}
        return [f"validation.{key}" for key, is_given in given.items() if is_given]


class OffloadSection(Section):
    """Where ZeRO keeps optimizer or parameters between uses."""

    device: Literal["none", "cpu"] = "none"
    pin_memory: bool = False


def is_offloaded(section: OffloadSection | None) -> bool:
    """Whether it keeps anything in main memory; a section may also say that it does not."""
    return section is not None and section.device == "cpu"


class ZeroSection(Section):
    """DeepSpeed's ``zero_optimization``: what is parted among processes (1 the optimizer, 2 gradients too,
    3 weights too) and how. Keys that are left out are DeepSpeed's to choose, except that adapters stay
    whole under stage 3."""

    stage: Literal[1, 2, 3]
    offload_optimizer: OffloadSection | None = None
    offload_param: OffloadSection | None = None
    contiguous_gradients: bool | None = None
    overlap_comm: bool | None = None
    allgather_partitions: bool | None = None
    allgather_bucket_size: float | None = Field(default=None, gt=0)
    reduce_scatter: bool | None = None
    reduce_bucket_size: float | None = Field(default=None, gt=0)
    round_robin_gradients: bool | None = None
    sub_group_size: float | None = Field(default=None, gt=0)
    stage3_max_live_parameters: float | None = Field(default=None, ge=0)
    stage3_max_reuse_distance: float | None = Field(default=None, ge=0)
    stage3_prefetch_bucket_size: float | None = Field(default=None, ge=0)
    stage3_param_persistence_threshold: float | None = Field(default=None, ge=0)


class HardwareSection(Section):
    """What a configuration is meant for; ``callama estimate`` plans for it. Training looks at what is there."""

    devices: int = Field(default=1, gt=0)
    memory_gib: float | None = Field(default=None, gt=0)  # of each; default: what this machine has


class TrainConfig(Section):
    """Everything that a run depends on."""

    name: str = "callama"
    # consolidated.pth of a native checkpoint, or its folder
    model_ckpt_file: Path = Field(examples=["./models/smollm2-135m/consolidated.pth"])
    tokenizer_file: Path | None = None  # default: the tokenizer in the checkpoint's folder
    seed: int = Field(default=3, ge=0, lt=2**63)
    steps_per_print: int = Field(default=10, gt=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"  # callama's
    dtype: Literal["auto", "fp32", "bf16"] = "auto"  # callama's: of the frozen base; adapters are fp32
    method: Literal["lora", "qlora", "full"] = "lora"  # callama's; qlora: the base in 4 bits; full: all weights
    check_memory: bool = True  # callama's: refuse to start what ``callama estimate`` says cannot fit
    hardware: HardwareSection = Field(default_factory=HardwareSection)  # callama's
    model: ModelSection = Field(default_factory=ModelSection, alias="model_config")
    lora: LoRASection = Field(default_factory=LoRASection, alias="lora_config")
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    scheduler: SchedulerSection = Field(default_factory=SchedulerSection)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    tensorboard: TensorBoardSection = Field(default_factory=TensorBoardSection)
    train: TrainSection
    validation: ValidationSection = Field(default_factory=ValidationSection)
    zero: ZeroSection | None = Field(default=None, alias="zero_optimization")  # callama's: run under DeepSpeed
    _spelling: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _not_deepspeeds(cls, values: Any) -> Any:
        if isinstance(values, dict) and "deepspeed_config" in values:
            command = "deepspeed --num_gpus=1 ds_finetune.py --config-file FILE"
            raise ValueError(f"deepspeed_config is for DeepSpeed; start it with: {command}")
        return values

    def spelled(self, text: str) -> str:
        """Advice that names settings, such as ``train.micro_batch_size=1``, with their keys in the user's file."""

        def theirs(match: re.Match[str]) -> str:
            head, dot, rest = match[0].partition(".")
            return self._spelling.get(match[0]) or self._spelling.get(head + dot, head + dot) + rest

        return _KEY.sub(theirs, text)

    def spelled_as(self, spelling: Mapping[str, str]) -> TrainConfig:
        """The same settings, out of a file that has other keys for these (``section.`` for all in a section)."""
        out = self.model_copy()
        out._spelling = spelling
        return out

    @property
    def another_job(self) -> str:
        """What a run must have other names for that is to leave this one's checkpoints and curves as they are."""
        curves = " and tensorboard.job_name" if self.tensorboard.enabled else ""
        return self.spelled(f"another checkpoint.job_name{curves}")

    @property
    def place(self) -> str:
        """``device``; under DeepSpeed ``auto`` is what that was told to run on."""
        told = self.zero is not None and self.device == "auto" and os.environ.get("DS_ACCELERATOR")
        return told or self.device

    def require_possible(self) -> None:
        """Refuses settings that are right one by one and do not go together.

        Raises:
            UsageError: naming both and what to change.
        """
        if self.method == "full" and (self.lora.use_dora or self.lora.use_rslora):
            raise UsageError("method is full, which has no adapter, and lora_config.use_dora or use_rslora is set")
        rates = self.scheduler
        if rates.min_lr > rates.max_lr:
            said = f"scheduler.min_lr is {rates.min_lr:g}, above scheduler.max_lr, which is {rates.max_lr:g}; "
            raise UsageError(
                self.spelled(f"{said}the rate rises from the one to the other: lower the first or raise the second")
            )
        without_data = self.validation.without_data()
        if without_data:
            need = "needs" if len(without_data) == 1 else "need"
            raise UsageError(
                f"{' and '.join(without_data)} {need} validation data, and validation.dataset_sources is empty; name a "
                "file there, set validation.enabled=false, or leave them out"
            )
        found = self.validation
        if found.enabled and found.best_by == "calls" and not found.questions:
            raise UsageError(
                "validation.best_by is 'calls' and validation.questions is 0; ask 32, say, or choose 'loss'"
            )
        if self.zero is None or self.zero.stage < 3:
            return
        if self.method == "qlora":
            raise UsageError(
                f"method is qlora and {self.spelled('zero_optimization.stage')} is 3, which cannot part weights of "
                "4 bits; use stage 2, where each process has all of them, or method lora"
            )
        if self.lora.use_dora:
            raise UsageError(
                f"lora_config.use_dora is set and {self.spelled('zero_optimization.stage')} is 3, where no process has "
                "the whole rows that DoRA measures; use stage 2, or leave out use_dora"
            )

    def changed(self, *overrides: str) -> TrainConfig:
        """The same settings but for these ``key=value``."""
        settings = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for argument in overrides:
            _override(TrainConfig, settings, argument)
        return TrainConfig.model_validate(settings).spelled_as(self._spelling)

    def saved(self) -> dict[str, Any]:
        """The settings in force, as they are written beside the result."""
        return self.model_dump(mode="json", by_alias=True)


def _override(model: type[BaseModel], settings: dict[str, Any], argument: str) -> None:
    path, found, text = argument.partition("=")
    if not found or not path:
        raise UsageError(f"{argument!r} is not key=value; example: train.micro_batch_size=4")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    *parents, key = path.split(".")
    if isinstance(value, int | float) and takes_text(model, [*parents, key]):
        value = text  # a name such as 1e-4 or 0.10, as it was typed
    node = settings
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UsageError(f"{argument!r}: {parent} is not a section")
    node[key] = value


Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(model: type[Settings], path: Path, overrides: Sequence[str]) -> Settings:
    """Reads a JSON file, applies ``key=value`` overrides and checks every key against ``model``.

    Raises:
        UsageError: the file is missing, a key is unknown or missing, or a value is impossible.
    """
    settings = read_json(path, "a training configuration")
    if not isinstance(settings, dict):
        raise UsageError(f"{path} must hold a JSON object of settings")
    for argument in overrides:
        _override(model, settings, argument)
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(model, error)}") from None


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a configuration file and applies ``key=value`` overrides.

    Raises:
        UsageError: the file is missing, a key is unknown or missing, or a value is impossible.
    """
    return read_settings(TrainConfig, path, overrides)
