"""The model that learns, with all that is needed to go on: optimizer, average."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lilliput.learning.machine import Machine
from lilliput.learning.optimizing import Rates, frozen_norms, optimizer_of
from lilliput.learning.training import Training


class Pupil:
    """A model in training.

    Args:
        model: It is trained in its place.
        extra: Modules that learn along; None for none.
        training: Optimizer, rates, average.
        machine: What it runs on.
    """

    def __init__(
        self, model: nn.Module, *, extra: nn.Module | None, training: Training, machine: Machine
    ) -> None:
        self._machine = machine
        self._rates = Rates.of(model, extra=extra, training=training)
        self._average = _averaged(model, training.average)
        self.plain = model
        self._own_forward = vars(model).get("forward")
        self._extra = machine.along(extra)
        self.model = machine.model(model)
        self._optimizer = machine.optimizer(optimizer_of(self._rates, training))

    def begin_step(self, rate: float, *, still_norms: bool) -> None:
        """Training mode, no gradients, this rate."""
        self.model.train()
        if self._extra is not None:
            self._extra.train()
        if still_norms:
            frozen_norms(self.plain)
        self._rates.set(self._optimizer, rate)
        self._optimizer.zero_grad()

    def clipped(self, norm: float) -> float:
        """Clips the gradients to a norm; what it was before."""
        return self._machine.clipped(self._rates.parameters, norm)

    def end_step(self) -> None:
        """One update of the weights, and of their average."""
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.plain)

    @property
    def shown(self) -> nn.Module:
        """The model as it is evaluated and kept."""
        return self.plain if self._average is None else self._average.module

    @property
    def finite(self) -> bool:
        """Whether all weights are numbers."""
        floats = (p for p in self.plain.parameters() if p.is_floating_point())
        return all(bool(p.isfinite().all()) for p in floats)

    def snapshot(self) -> dict[str, Any]:
        """All of its state, as it is now."""
        found = {
            "model": cloned(self.plain.state_dict()),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
        }
        for name, module in self._beside().items():
            found[name] = cloned(module.state_dict())
        return found

    def restore(self, found: Mapping[str, Any]) -> None:
        """Goes back to a snapshot."""
        self.plain.load_state_dict(found["model"])
        self._optimizer.load_state_dict(copy.deepcopy(found["optimizer"]))
        for name, module in self._beside().items():
            module.load_state_dict(found[name])

    def ended(self) -> nn.Module:
        """The model as it is shown, called as before the training."""
        self._machine.unwrapped(self.model)
        self._optimizer.zero_grad()
        vars(self.plain).pop("forward", None)
        if self._own_forward is not None:
            vars(self.plain)["forward"] = self._own_forward
        return self.shown

    def _beside(self) -> dict[str, nn.Module]:
        beside = {"extra": self._extra, "average": self._average}
        return {name: module for name, module in beside.items() if module is not None}


def cloned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of weights that later updates do not touch."""
    return {name: value.detach().clone() for name, value in state.items()}


def restore_flags(trained: nn.Module, original: nn.Module) -> None:
    """What required gradients before requires them again."""
    flags = {name: p.requires_grad for name, p in original.named_parameters()}
    for name, parameter in trained.named_parameters():
        parameter.requires_grad_(flags.get(name, True))


def _averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=partial(_mix, decay), use_buffers=True)


def _mix(decay: float, average: list[Tensor], now: list[Tensor], steps: Tensor | int) -> None:
    """The exponential average, which forgets its beginning sooner."""
    done = int(steps)
    keep = get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))  # type: ignore[no-untyped-call]
    keep(average, now, done)
