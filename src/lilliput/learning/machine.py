"""What the loop runs on: accelerate's view of processes, devices and mixed precision."""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn.utils import clip_grad_norm_

from lilliput.batches import Batch
from lilliput.errors import MissingExtraError
from lilliput.learning.training import Training
from lilliput.learning.watching import to_device

_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


class Machine:
    """One process of a run; several where `accelerate launch` started them.

    Args:
        training: Precision, device and loggers.
        folder: Where loggers write; None for no loggers.

    Raises:
        MissingExtraError: accelerate, or a logger asked for, is not installed.
    """

    def __init__(self, training: Training, folder: Path | None) -> None:
        _require("accelerate", "learn")
        for logger in training.loggers:
            _require(logger, logger)
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedType

        AcceleratorState._reset_state()  # it holds the precision of whoever came before
        self._accelerator = Accelerator(
            cpu=training.device == "cpu",
            mixed_precision=_PRECISION[training.precision],
            log_with=list(training.loggers) if folder and training.loggers else None,
            project_dir=str(folder) if folder else None,
        )
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.ranks: int = self._accelerator.num_processes
        self.first: bool = self._accelerator.is_main_process
        alone = self._accelerator.distributed_type == DistributedType.NO
        # Then accelerate only passes on, and looks for installed packages at every step.
        self._direct = alone and self._accelerator.scaler is None
        self._logs = bool(training.loggers and folder)
        if self._logs:
            self._accelerator.init_trackers("lilliput", config=_plain(training))

    def model(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training; the one given holds the weights."""
        prepared: nn.Module = self._accelerator.prepare_model(model)
        return prepared

    def unwrapped(self, model: nn.Module) -> nn.Module:
        """The model given to `model`, as it was called before."""
        plain: nn.Module = self._accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        return plain

    def optimizer(self, optimizer: optim.Optimizer) -> Any:
        """The optimizer as it is stepped."""
        return optimizer if self._direct else self._accelerator.prepare_optimizer(optimizer)

    def along(self, extra: nn.Module | None) -> nn.Module | None:
        """Modules that learn along, on this device."""
        return None if extra is None else extra.to(self.device)

    def moved(self, batch: Batch) -> Batch:
        """A batch on this device."""
        if self.device.type == "cpu":
            return batch
        targets = batch.targets
        if isinstance(targets, Tensor):
            targets = targets.to(self.device)
        return replace(batch, inputs=to_device(batch.inputs, self.device), targets=targets)

    def backward(self, loss: Tensor) -> None:
        """Adds gradients."""
        if self._direct:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._accelerator.backward(loss)

    def clipped(self, parameters: Sequence[Tensor], norm: float) -> float:
        """Clips gradients to a norm; what it was before."""
        clip = clip_grad_norm_ if self._direct else self._accelerator.clip_grad_norm_
        return float(clip(parameters, norm))

    def seed(self, seed: int) -> None:
        """Dropout, and what is random in the user's own examples."""
        random.seed(seed)
        np.random.seed(seed)
        if self.device.type == "cpu":  # `torch.manual_seed` would note it for absent devices, too
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Gradients of this batch wait for those of the next before processes exchange them."""
        waiting: AbstractContextManager[Any] = self._accelerator.no_sync(model)
        return waiting

    def summed(self, value: float) -> float:
        """The sum over processes."""
        if self.ranks == 1:
            return value
        found = torch.tensor([value], dtype=torch.float64, device=self.device)
        return float(self._accelerator.reduce(found, reduction="sum"))

    def agreed(self, value: float) -> float:
        """What the first process says."""
        if self.ranks == 1:
            return value
        from accelerate.utils import broadcast

        found = torch.tensor([value], dtype=torch.float64, device=self.device)
        return float(broadcast(found))

    def log(self, values: dict[str, float | None], step: int) -> None:
        """Tells the loggers."""
        if self._logs:
            known = {name: value for name, value in values.items() if value is not None}
            self._accelerator.log(known, step=step)

    def close(self) -> None:
        """The end of the run."""
        if self._logs:
            self._accelerator.end_training()


def _require(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise MissingExtraError(f"{package} is not installed", f"pip install lilliput[{extra}]")


def _plain(training: Training) -> dict[str, Any]:
    """Settings as loggers take them: numbers and words."""
    return {name: str(value) for name, value in training.settings.items()}
