"""Layers that start as the identity, for plain stacks of layers and activations."""

import copy
from typing import Any

import torch
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.proof import Reference
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Shape

_ONCE = (nn.ReLU, nn.ReLU6)  # f(f(x)) = f(x), as f(I f(x)) has to be
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def plain_places(model: nn.Module) -> list[str]:
    """Activations in plain stacks behind which an identity layer with one more changes nothing."""
    return [
        f"{path}.{leaf}" if path else leaf
        for path, stack in model.named_modules()
        if isinstance(stack, nn.Sequential)
        for leaf, child in stack.named_children()
        if isinstance(child, _ONCE) and _layer_before(stack, int(leaf)) is not None
    ]


def deepen_plain(model: nn.Module, shape: Shape, *, name: str, inputs: Any) -> Reshaped:
    """Inserts an identity layer and an activation behind an activation of a plain stack.

    The function stays as it is (Net2DeeperNet, arXiv 1511.05641). The model is left as it was.

    Args:
        model: The model that `shape` was made of.
        shape: Its capture.
        name: One of `plain_places`.
        inputs: One example batch.

    Raises:
        ShapeError: The deeper model answers otherwise.
    """
    deeper = copy.deepcopy(model)
    path, _, leaf = name.rpartition(".")
    stack, place = deeper.get_submodule(path), int(leaf)
    if not isinstance(stack, nn.Sequential) or (layer := _layer_before(stack, place)) is None:
        raise ShapeError(f"{name} is no activation of a plain stack")
    activation = copy.deepcopy(stack[place])
    for number, module in enumerate((_identity(layer), activation), start=1):
        stack.insert(place + number, module.train(model.training))
    checks = Reference(model, Kept(shape, {}), inputs).compare(deeper)
    if not all(check.equal for check in checks):
        raise ShapeError(f"a layer behind {name} was refused: the model answers otherwise")
    return Reshaped(deeper, "class", tuple(checks))


def _layer_before(stack: nn.Sequential, place: int) -> nn.Module | None:
    """The layer whose results an activation is given, through norms and dropout at most."""
    for module in reversed(list(stack)[:place]):
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            return module
        if not isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            return None
    return None


def _identity(layer: nn.Module) -> nn.Module:
    """A layer from the results of another one to as many, that changes nothing."""
    weight = layer.get_parameter("weight")
    size = len(weight)
    like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(layer, nn.Linear):
        new: nn.Module = nn.Linear(size, size, **like)
        nn.init.eye_(new.get_parameter("weight"))
    else:
        kernel: Any = tuple(k if k % 2 else 1 for k in weight.shape[2:])
        padding: Any = tuple(k // 2 for k in kernel)
        kind = next(kind for kind in _CONVOLUTIONS if isinstance(layer, kind))
        new = kind(size, size, kernel, padding=padding, **like)
        nn.init.dirac_(new.get_parameter("weight"))
    with torch.no_grad():
        new.get_parameter("bias").zero_()
    return new
