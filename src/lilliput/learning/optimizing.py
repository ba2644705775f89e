"""Which parameters are trained, at which rates, by which optimizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import nn, optim
from torch.nn.modules.batchnorm import _NormBase

from lilliput.errors import TrainingError
from lilliput.learning.training import OPTIMIZERS, Training

FACTOR = "factor"  # of a group of parameters: its rate over that of the run


@dataclass(frozen=True)
class Rates:
    """Groups of parameters, each with its share of the rate and its decay.

    Attributes:
        groups: As optimizers take them.
        parameters: All of them.
    """

    groups: tuple[dict[str, Any], ...]
    parameters: tuple[nn.Parameter, ...]

    @classmethod
    def of(cls, model: nn.Module, *, extra: nn.Module | None, training: Training) -> "Rates":
        """Those of a model that require gradients, and those of modules that learn along.

        Layers are told apart by the order in which the model names them, its last ones learn at
        the full rate. Weights with one axis (biases, norms) have no decay.

        Raises:
            TrainingError: There are none.
        """
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not named:
            raise TrainingError(
                "no parameter is to be trained", "call model.requires_grad_(True), or name a part"
            )
        owners = list(dict.fromkeys(name.rpartition(".")[0] for name in named))
        depth = {owner: len(owners) - 1 - place for place, owner in enumerate(owners)}
        found: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in named.items():
            factor = training.layer_decay ** depth[name.rpartition(".")[0]]
            decay = training.weight_decay if parameter.ndim > 1 else 0.0
            found.setdefault((factor, decay), []).append(parameter)
        if extra is not None:
            learning = [p for p in extra.parameters() if p.requires_grad]
            found.setdefault((1.0, 0.0), []).extend(learning)
        groups: tuple[dict[str, Any], ...] = tuple(
            {"params": members, FACTOR: factor, "weight_decay": decay}
            for (factor, decay), members in found.items()
            if members
        )
        return cls(groups, tuple(p for members in found.values() for p in members))

    @staticmethod
    def set(optimizer: Any, rate: float) -> None:
        """The rate of the next step."""
        for group in optimizer.param_groups:
            group["lr"] = rate * group[FACTOR]


def optimizer_of(rates: Rates, training: Training) -> optim.Optimizer:
    """A fresh optimizer over the groups.

    Raises:
        TrainingError: It cannot be made from the settings alone.
    """
    kind = OPTIMIZERS[training.optimizer]
    taken = signature(kind).parameters
    given: dict[str, Any] = {"lr": training.rate}
    if "momentum" in taken:
        given["momentum"] = training.momentum
    groups: Sequence[dict[str, Any]] = [
        {name: value for name, value in group.items() if name != "weight_decay" or name in taken}
        for group in rates.groups
    ]
    try:
        return kind(groups, **given)
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"optimizer {training.optimizer} does not take this model: {error}", "try adamw"
        ) from error


def frozen_norms(model: nn.Module) -> None:
    """BatchNorm's statistics stand still until the model is put into training mode again."""
    for module in model.modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            module.eval()
