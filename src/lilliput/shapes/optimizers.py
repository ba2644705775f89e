"""The state of an optimizer, cut like the parameters it belongs to."""

import inspect
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from lilliput.errors import ShapeError
from lilliput.shapes.graphmodel import weights_of
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept


def resized_optimizer(optimizer: Optimizer, found: Reshaped, *, original: nn.Module) -> Optimizer:
    """An optimizer of the cut model that goes on where the original's stands.

    It has the same class, groups and settings; momenta and other tensors of a parameter's own
    shape lose the positions that the parameter lost. The optimizer given is left as it was.

    Args:
        optimizer: Trains weights of `original`.
        found: What `cut` made of `original`.
        original: The model before the cut.

    Raises:
        ShapeError: Units were copied or nothing was cut, it trains a weight that `original` does
            not have, or its state is not laid out like its parameters (L-BFGS, factored moments).
    """
    kept = found.kept
    if kept is None or any(np.unique(units).size < len(units) for units in kept.units.values()):
        raise ShapeError("this step did not only cut units, so no optimizer can be cut along")
    names = {id(one): name for name, one in original.named_parameters()}
    smaller = weights_of(found.model)
    groups = []
    for group in optimizer.param_groups:
        twins = [smaller[_name(names, one)] for one in group["params"]]
        groups.append({**group, "params": twins})
    wanted = inspect.signature(type(optimizer)).parameters
    settings = {key: value for key, value in optimizer.defaults.items() if key in wanted}
    made = type(optimizer)(groups, **settings)
    for parameter, state in optimizer.state.items():
        name = _name(names, parameter)
        made.state[smaller[name]] = {
            key: _cut(kept, value, parameter, f"{key} of {name}", name=name)
            for key, value in state.items()
        }
    return made


def _name(names: dict[int, str], parameter: Tensor) -> str:
    if id(parameter) not in names:
        raise ShapeError(
            f"the optimizer trains a weight of shape {tuple(parameter.shape)} that is not the "
            "model's"
        )
    return names[id(parameter)]


def _cut(kept: Kept, value: Any, parameter: Tensor, place: str, *, name: str) -> Any:
    """One entry of a parameter's state."""
    if not isinstance(value, Tensor):
        if isinstance(value, list | tuple | dict):
            raise ShapeError(f"the optimizer's {place} is a {type(value).__name__}: unknown layout")
        return value
    if value.ndim == 0:
        return value.clone()
    if value.shape != parameter.shape:
        raise ShapeError(
            f"the optimizer's {place} has the shape {tuple(value.shape)}, its parameter "
            f"{tuple(parameter.shape)}: it cannot be cut along"
        )
    return kept.cut(value, kept.shape.flow.sources[name].axes).clone()
