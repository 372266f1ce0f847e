"""The engine on DeepSpeed's ZeRO 1, 2 and 3: optimizer, gradients and weights parted among processes.

DeepSpeed is asked for the parting and nothing else. The model keeps its mixed precision (frozen base in
bf16, adapters in fp32; trained weights in bf16 with DeepSpeed's copies in fp32), the optimizer is the plain
engine's, and the loss is the sum over supervised tokens, divided once all processes' gradients are in; so
the curves are those of one process.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callama.common.errors import CallamaError, UsageError
from callama.common.files import disk_errors
from callama.data.pack import MicroBatch
from callama.model.lora import LoRAParams, lora_modules
from callama.model.transformer import Dropout, Transformer
from callama.train.checkpoint import damaged, require_undamaged
from callama.train.config import TrainConfig
from callama.train.engine import Trained, adamw
from callama.train.loss import SupervisedLoss, supervised_loss
from callama.weights.adapter import Adapter
from callama.weights.native import NativeCheckpoint, build_model, build_packed, save_tensors
from callama.weights.shards import load_shard

TIMEOUT_MINUTES = 30


def _deepspeed() -> Any:
    try:
        import deepspeed
    except ImportError:
        raise UsageError(
            "DeepSpeed is not installed; install it with: pip install -e '.[deepspeed]' in callama's folder"
        ) from None
    return deepspeed


def join(config: TrainConfig) -> None:
    """Joins the other processes that the launcher has started; once is enough.

    Raises:
        UsageError: there is no DeepSpeed, no launcher, or it would run elsewhere than the settings say.
    """
    deepspeed = _deepspeed()
    if torch.distributed.is_initialized():
        return
    if "RANK" not in os.environ:
        raise UsageError(
            "training with zero_optimization is started by DeepSpeed: deepspeed --num_gpus=1 ds_finetune.py "
            "(without GPUs: DS_ACCELERATOR=cpu deepspeed --num_accelerators 2 ds_finetune.py)"
        )
    accelerator = deepspeed.get_accelerator().device_name()
    if accelerator not in ("cpu", "cuda") or config.device not in ("auto", accelerator):
        raise UsageError(
            f"DeepSpeed runs on {accelerator!r}, the device is {config.device!r}; DS_ACCELERATOR=cpu or cuda decides"
        )
    level = logging.WARNING if os.environ["RANK"] == "0" else logging.ERROR
    logging.getLogger("DeepSpeed").setLevel(level)
    if accelerator == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Used in inference only, compiled for minutes at the first start, and waited for without end where that
    # was killed: DeepSpeed's collective for CPUs.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    deepspeed.init_distributed(timeout=timedelta(minutes=TIMEOUT_MINUTES), verbose=False)


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return torch.distributed.get_rank() == 0


def told_by_first(text: str) -> str:
    """What the first process says, at all of them."""
    told = [text]
    torch.distributed.broadcast_object_list(told)
    return told[0]


def wait_for_all() -> None:
    """Goes on when all processes are here, where there are several, or when one has gone."""
    if torch.distributed.is_initialized():
        sys.stdout.flush()
        with suppress(RuntimeError):
            torch.distributed.barrier()


def leave(status: int) -> NoReturn:
    """Ends this process without taking Python apart: DeepSpeed keeps its process groups to the last, and where one
    of gloo's threads lets go of a tensor while Python is taken apart, the process is aborted
    (https://github.com/pytorch/pytorch/issues/190489)."""
    if status == 0 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def is_lost(error: Exception) -> bool:
    """Whether it says that another process does not answer any more. Gloo has no error of its own."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _settings(config: TrainConfig, persistent: int) -> dict[str, Any]:
    """DeepSpeed's own configuration; parameters of up to ``persistent`` numbers stay whole under stage 3."""
    assert config.zero is not None
    zero = config.zero.model_dump(exclude_none=True)
    zero = {key: int(value) if isinstance(value, float) else value for key, value in zero.items()}
    zero.setdefault("stage3_param_persistence_threshold", max(persistent, 100_000))
    return {
        "train_micro_batch_size_per_gpu": config.train.micro_batch_size,
        "gradient_accumulation_steps": config.train.gradient_accumulation_steps,
        "gradient_clipping": config.train.gradient_clipping,
        "zero_optimization": {**zero, "memory_efficient_linear": False},  # it would replace torch's for everyone
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
    }


class PartedTransformer(Transformer):
    """Gathers the output projection, which is not a module's own where it is tied, to make logits."""

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 logits (…, vocab_size) of hidden states (…, dim)."""
        with _deepspeed().zero.GatheredParameters([self.output_weight]):
            return super().logits(hidden)


class _PartedLinear(nn.Linear):
    """Keeps no weight for the way back, where it is gathered again, and its input only where the weight is trained."""

    def forward(self, x: Tensor) -> Tensor:
        return _parted_product(x, self.weight)


class _PartedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.weight = weight  # the parameter itself: what ``save_for_backward`` keeps would be a whole weight
        ctx.save_for_backward(x if weight.requires_grad else None)
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        (gradient,), (x,) = gradients, ctx.saved_tensors
        for_weight = gradient.flatten(0, -2).t() @ x.flatten(0, -2) if ctx.needs_input_grad[1] else None
        return gradient @ ctx.weight, for_weight


_parted_product = cast(Callable[[Tensor, Tensor], Tensor], _PartedProduct.apply)


def builder(config: TrainConfig) -> Callable[..., Transformer]:
    """What makes the model: as without ZeRO, or under stage 3 so that it never holds more than a tensor whole."""
    assert config.zero is not None
    if config.zero.stage < 3:
        return build_packed if config.method == "qlora" else build_model
    deepspeed, settings = _deepspeed(), _settings(config, 0)

    def build_parted(
        checkpoint: NativeCheckpoint, *, dtype: torch.dtype, device: torch.device, dropout: Dropout
    ) -> Transformer:
        with torch.device("meta"):
            model = PartedTransformer(checkpoint.params, tied=checkpoint.tied, dropout=dropout)
        part: Callable[..., None] | None = None
        for name in list(dict(model.named_parameters())):
            place, _, key = name.rpartition(".")
            module = model.get_submodule(place)
            tensor = checkpoint.state[name].to(device=device, dtype=dtype, copy=True)
            parameter = nn.Parameter(tensor, requires_grad=config.method == "full")
            setattr(module, key, parameter)
            if isinstance(module, nn.Linear):
                module.__class__ = _PartedLinear
            if part is None:
                deepspeed.zero.Init(
                    module=module, config_dict_or_path=settings, dtype=dtype, mem_efficient_linear=False
                )
                part = parameter.convert_to_zero_parameters  # type: ignore[attr-defined]  # DeepSpeed adds it
            else:
                part(param_list=[parameter])
        return model

    return build_parted


class ZeroEngine:
    """One of the processes of a DeepSpeed run."""

    def __init__(self, model: Transformer, config: TrainConfig) -> None:
        deepspeed = _deepspeed()
        assert config.zero is not None
        self.rank, self.ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.parted, self._model = config.zero.stage == 3, model
        adapted = config.method != "full"
        settings = _settings(config, max(p.numel() for p in self.parameters) if adapted else 0)
        optimizer = adamw(self.parameters, config.optimizer)
        self._engine = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)[0]
        self._engine.checkpoint_engine = _checkpoint_engine()
        self._gathered = deepspeed.zero.GatheredParameters
        self._until_back = ExitStack()

    def loss(self, batch: MicroBatch) -> SupervisedLoss:
        """Runs this process's micro-batch."""
        return supervised_loss(self._engine, batch, self._projection)

    def _projection(self, weight: Tensor) -> AbstractContextManager[Any]:
        """A trained one is whole until ``backward`` has its gradient: no module does that for it."""
        if not (self.parted and weight.requires_grad and torch.is_grad_enabled()):
            return self._whole(weight)
        self._until_back.enter_context(self._whole(weight))
        return nullcontext()

    def _whole(self, *parameters: Tensor) -> AbstractContextManager[Any]:
        if not self.parted:
            return nullcontext()
        return self._gathered(list(parameters))  # type: ignore[no-any-return]

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds the loss's gradients to those of the step; all processes' with the last."""
        self._engine.set_gradient_accumulation_boundary(last)
        with self._until_back:
            self._engine.backward(loss, scale_wrt_gas=False)

    def step(self, learning_rate: float, divisor: float) -> float:
        """One update with the gradients, summed over processes, divided by ``divisor``; returns their norm."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        # DeepSpeed averages over processes, and divides by the loss's scale before it clips.
        self._engine.optimizer.loss_scale = divisor / self.ranks
        self._engine.step()
        self._engine.optimizer.loss_scale = 1.0
        return float(self._engine.get_global_grad_norm())

    def total(self, values: Tensor) -> Tensor:
        """The sum of all processes' values."""
        values = values.to(self._engine.device)
        torch.distributed.all_reduce(values)
        return values.cpu()

    def trained(self, lora: LoRAParams) -> Trained:
        """A copy of the adapter or the weights as they are now; only the first process's is filled."""
        copies: dict[nn.Parameter, Tensor] = {}
        for parameter in self.parameters:  # one by one: all weights may be more than a device holds
            with self._whole(parameter):
                if self.rank == 0:
                    copies[parameter] = parameter.detach().cpu().clone()
        adapted = dict(lora_modules(self._model))
        if not adapted:
            return {name: copies[p] for name, p in self._model.named_parameters() if p in copies}
        factors, magnitudes = {}, {}
        for name, module in adapted.items() if copies else ():
            factors[name] = copies[module.lora_a], copies[module.lora_b]
            if module.magnitude is not None:
                magnitudes[name] = copies[module.magnitude]
        return Adapter(lora, factors, magnitudes)

    def state(self, folder: Path) -> dict[str, Any]:
        """Writes DeepSpeed's files, of what is trained only, into ``folder``.

        Raises:
            CallamaError: the disk is full; what was written of them is gone.
        """
        above = folder.parent
        with disk_errors(above.with_name(folder.name)), ExitStack() as unless_whole:
            unless_whole.callback(shutil.rmtree, above, ignore_errors=True)
            self._engine.save_checkpoint(str(above), folder.name, save_latest=False, exclude_frozen_parameters=True)
            unless_whole.pop_all()
        return {"ranks": self.ranks}

    def load_state(self, folder: Path, state: dict[str, Any]) -> None:
        """Restores what is trained and the optimizer from DeepSpeed's files in ``folder``.

        Raises:
            CallamaError: they are of another number of processes, damaged or missing.
        """
        if state.get("ranks") != self.ranks:
            raise CallamaError(
                f"{folder} was written by {state.get('ranks')} processes, this run has {self.ranks}; start as many"
            )
        scaler = self._engine.optimizer.loss_scaler  # the one in the files is not read
        found, _ = self._engine.load_checkpoint(str(folder.parent), folder.name, load_module_strict=False)
        self._engine.optimizer.loss_scaler = scaler
        if found is None:
            raise damaged(folder / "mp_rank_00_model_states.pt", "DeepSpeed finds no state of its own")


def _checkpoint_engine() -> Any:
    """DeepSpeed's reader and writer, but nothing except tensors and plain values is unpickled."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    class WeightsOnly(TorchCheckpointEngine):  # type: ignore[misc]
        def save(self, state_dict: Any, path: str) -> None:
            save_tensors(state_dict, Path(path))

        def load(self, path: str, map_location: Any = None) -> Any:
            require_undamaged(Path(path))
            return load_shard(Path(path))

    return WeightsOnly()
