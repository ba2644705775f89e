"""What becomes of a network of the zoo when each of its widths is cut, found once per network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lilliput.errors import ShapeError
from lilliput.model.calls import arguments, evaluating
from lilliput.model.hashes import state_hash
from lilliput.shapes.cutting import cut
from lilliput.shapes.widths import Shape, Width, shape_of
from zoo.arranged import NETS as ARRANGED
from zoo.attentive import NETS as ATTENTIVE
from zoo.convolutional import NETS as CONVOLUTIONAL
from zoo.parts import Net
from zoo.sequential import NETS as SEQUENTIAL

ZOO = {net.name: net for net in (*CONVOLUTIONAL, *ARRANGED, *ATTENTIVE, *SEQUENTIAL)}
SHARES = (0.25, 0.5)


@dataclass(frozen=True)
class Tried:
    """One cut, without the model it made: a thousand of them are kept.

    Attributes:
        units: Width -> units that stay.
        how: ``class`` or ``graph``; empty if it was refused.
        equal: Whether all checks of the proof are.
        checks: How many there were.
        refusal: Why it was refused.
        sizes: Name in the state -> shape.
        moved: How far the cut model's outputs are from the original's, relative.
        masked: How far they are from the original's with what its layers read of the cut units
            set to zero by hooks; None where hooks cannot do that.
    """

    units: dict[str, list[int]]
    how: str = ""
    equal: bool = False
    checks: int = 0
    refusal: str = ""
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    moved: float = 0.0
    masked: float | None = None


@dataclass(frozen=True)
class Examined:
    """A network, its widths, every width cut by a quarter and a half, then all by a half.

    Attributes:
        halved: The network with half of every width.
    """

    net: Net
    model: nn.Module
    widths: dict[str, Width]
    untouched: bool
    tried: tuple[Tried, ...]
    halved: nn.Module | None


@cache
def examined(name: str) -> Examined:
    """Cuts a network of the zoo in every way that the tests look at."""
    net = ZOO[name]
    model, inputs = net.model(), net.example()
    before = state_hash(model)
    shape = shape_of(model, inputs, dynamic=net.dynamic)
    free = [width for width in shape.widths.values() if width.free]
    cuts = [{one.name: stay(one, share)} for one in free for share in SHARES]
    cuts.append({one.name: stay(one, 0.5) for one in free})
    tried = [_tried(model, shape, units, inputs) for units in cuts]
    untouched = state_hash(model) == before
    halved = tried[-1][1]
    return Examined(net, model, shape.widths, untouched, tuple(one for one, _ in tried), halved)


def stay(width: Width, share: float) -> list[int]:
    """Units that stay when a share of them goes: some from anywhere, not the first ones."""
    gone = max(round(width.units * share), 1)
    order = np.random.default_rng(width.units).permutation(width.units)
    return sorted(order[: width.units - gone].tolist())


def _tried(
    model: nn.Module, shape: Shape, units: dict[str, list[int]], inputs: Any
) -> tuple[Tried, nn.Module | None]:
    try:
        found = cut(model, shape, units=units, inputs=inputs)
    except ShapeError as error:
        return Tried(units, refusal=str(error)), None
    answers, original = outputs(found.model, inputs), outputs(model, inputs)
    masked = _masked_outputs(model, shape, inputs, units)
    tried = Tried(
        units,
        how=found.how,
        equal=all(check.equal for check in found.checks),
        checks=len(found.checks),
        sizes={name: tuple(one.shape) for name, one in found.model.state_dict().items()},
        moved=distance(answers, original),
        masked=None if masked is None else distance(answers, masked),
    )
    return tried, found.model


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """The floating-point tensors that a model returns, in evaluation mode."""
    with evaluating(model), torch.no_grad():
        args, kwargs = arguments(inputs)
        return floats(model(*args, **kwargs))


def floats(answer: Any) -> list[Tensor]:
    """All floating-point tensors of an answer."""
    leaves = pytree.tree_leaves(answer)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference over the largest wanted value."""
    pairs = zip(found, wanted, strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ALONE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU, nn.GroupNorm)


def _masked_outputs(
    model: nn.Module, shape: Shape, inputs: Any, units: dict[str, list[int]]
) -> list[Tensor] | None:
    """The original's outputs while plain layers read zeros in the place of the cut units.

    Knows nothing of the graph: only which inputs of which layers a width runs along. None where a
    width is mixed by a norm, or is read by anything but linear layers and convolutions.
    """
    silent: dict[str, list[int]] = {}
    for name, kept in units.items():
        width = shape.widths[name]
        gone = np.delete(np.arange(width.units), kept)
        reads = 0
        for tie in width.ties:
            path, _, leaf = tie.weight.rpartition(".")
            layer = model.get_submodule(path)
            role = _role(layer, leaf, tie.axis)
            if role is None or width.norms:
                return None
            if role == "reads":
                silent.setdefault(path, []).extend(tie.positions[gone].reshape(-1).tolist())
                reads += 1
        if not reads:
            return None
    called: set[str] = set()
    with _zeros(model, silent, called):
        found = outputs(model, inputs)
    return found if called == silent.keys() else None


def _role(layer: nn.Module, leaf: str, axis: int) -> str | None:
    """Whether an axis of a layer's weight reads or makes channels; None where that is not plain."""
    if isinstance(layer, nn.Linear) and not isinstance(
        layer, nn.modules.linear.NonDynamicallyQuantizableLinear
    ):
        return "reads" if leaf == "weight" and axis == 1 else "makes"
    if isinstance(layer, _CONVOLUTIONS) and (layer.groups == 1 or axis == 0):
        return "reads" if leaf == "weight" and axis == 1 else "makes"
    if isinstance(layer, _TRANSPOSED) and layer.groups == 1:
        return "reads" if leaf == "weight" and axis == 0 else "makes"
    return "makes" if isinstance(layer, (*_ALONE, nn.Embedding)) else None


@contextmanager
def _zeros(model: nn.Module, silent: dict[str, list[int]], called: set[str]) -> Iterator[None]:
    def hook(path: str, axis: int) -> Any:
        def replaced(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            called.add(path)
            places = torch.tensor(silent[path])
            return (args[0].index_fill(axis, places, 0), *args[1:])

        return replaced

    handles = []
    for path in silent:
        layer = model.get_submodule(path)
        axis = -1 if isinstance(layer, nn.Linear) else 1
        handles.append(layer.register_forward_pre_hook(hook(path, axis)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
