"""Layers that start as the identity: in plain stacks of layers, and behind any layer."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.flow import module_of, operator_name
from lilliput.shapes.proof import EXACT, Reference
from lilliput.shapes.proving import first_proved
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Shape

_ONCE = (nn.ReLU, nn.ReLU6)  # f(f(x)) = f(x), as f(I f(x)) has to be
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)


def plain_places(model: nn.Module) -> list[str]:
    """Activations in plain stacks behind which an identity layer with one more changes nothing."""
    return [
        f"{path}.{leaf}" if path else leaf
        for path, stack in model.named_modules()
        if isinstance(stack, nn.Sequential)
        for leaf, child in stack.named_children()
        if isinstance(child, _ONCE) and _layer_before(stack, int(leaf)) is not None
    ]


def layer_places(model: nn.Module, shape: Shape) -> list[str]:
    """Linear and convolutional layers that are called as modules and whose width is free.

    Where there is none whose width is free: all that are called, the model's last one too.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    called = dict.fromkeys(
        module_of(node)
        for node in shape.captured.graph.graph.nodes
        if node.op == "call_function" and operator_name(node).startswith(("linear", "conv"))
    )
    known = [name for name in called if name and type(modules[name]) in _LAYERS]
    free = [width for width in shape.widths.values() if width.free]
    made = {(tie.weight, tie.axis) for width in free for tie in width.ties}
    return [one for one in known if (f"{one}.weight", _axis(modules[one])) in made] or known


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
    new = _identity(layer), copy.deepcopy(stack[place])
    for number, module in enumerate(new, start=1):
        stack.insert(place + number, module.train(model.training))
    return _proved(deeper, name, reference=Reference(model, Kept(shape, {}), inputs))


def deepen_behind(model: nn.Module, shape: Shape, *, name: str, inputs: Any) -> Reshaped:
    """Puts a PReLU of slope one, and a layer that is the identity, behind a layer.

    The function stays as it is whatever follows; as the slope is learnt, the two become an
    activation and a layer. The old layer becomes the first entry of an `nn.Sequential`. The model
    is left as it was.

    Args:
        model: The model that `shape` was made of.
        shape: Its capture.
        name: One of `layer_places`, or such a sequence.
        inputs: One example batch.

    Raises:
        ShapeError: The deeper model answers otherwise, or does not run: its code may read the
            layer's weight itself.
    """
    deeper = copy.deepcopy(model)
    path, _, leaf = name.rpartition(".")
    old = deeper.get_submodule(name)
    before = list(old) if isinstance(old, nn.Sequential) else [old]
    if not isinstance(layer := before[0], _LAYERS):
        raise ShapeError(f"{name} is no layer")
    new = nn.PReLU(init=1.0).to(layer.weight), _identity(layer, reach=False)
    setattr(deeper.get_submodule(path), leaf, nn.Sequential(*before, *new).train(model.training))
    found = _proved(deeper, name, reference=Reference(model, Kept(shape, {}), inputs))
    note = f"behind {name}: a PReLU whose slope is 1 until learnt, and a layer, now the identity"
    return replace(found, notes=(note,))


def _proved(deeper: nn.Module, name: str, *, reference: Reference) -> Reshaped:
    what = f"a layer behind {name}"
    return first_proved([("class", lambda: deeper)], reference, what=what, within=EXACT)


def _layer_before(stack: nn.Sequential, place: int) -> nn.Module | None:
    """The layer whose results an activation is given, through norms and dropout at most."""
    for module in reversed(list(stack)[:place]):
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            return module
        if not isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            return None
    return None


def _identity(layer: nn.Module, *, reach: bool = True) -> nn.Module:
    """A layer from the results of another one to as many, that changes nothing.

    Args:
        layer: The other one.
        reach: A convolution's kernel is as large as the layer's; else 1, so that nothing is seen
            that was not seen before (a causal network stays causal).
    """
    weight = layer.get_parameter("weight")
    size = weight.shape[_axis(layer)] * int(getattr(layer, "groups", 1) if _axis(layer) else 1)
    like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(layer, nn.Linear):
        new: nn.Module = nn.Linear(size, size, **like)
        nn.init.eye_(new.get_parameter("weight"))
    else:
        kernel: Any = tuple(k if k % 2 and reach else 1 for k in weight.shape[2:])
        padding: Any = tuple(k // 2 for k in kernel)
        new = _CONVOLUTIONS[weight.ndim - 3](size, size, kernel, padding=padding, **like)
        nn.init.dirac_(new.get_parameter("weight"))
    with torch.no_grad():
        new.get_parameter("bias").zero_()
    return new


def _axis(layer: nn.Module) -> int:
    """The axis of its weight along which its results lie."""
    return 1 if isinstance(layer, _TRANSPOSED) else 0
