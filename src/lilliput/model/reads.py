"""The table of graph operations that read a weight: which argument it is, and what it multiplies.

An operation that is not in the table freezes every weight it touches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from lilliput.model.convolution import Geometry
from lilliput.model.recurrent import CELLS, LAYERS, layout
from lilliput.model.sites import Kind

_aten = torch.ops.aten
Operation = Literal["linear", "conv", "embedding", "recurrent"]


@dataclass(frozen=True)
class Reading:
    """One weight argument of one node.

    Attributes:
        weight: The argument.
        source: The argument that carries what the weight is applied to.
        operation: How weight and source are combined.
        kind: Kind of site this makes of the weight.
        axes: ``linear``: axes of the weight that are outputs, and those that are inputs.
        source_axes: ``linear``: axes of the source that are inputs, in the same order.
        output_axes: ``linear``: axes of the result that are outputs, in the same order.
        geometry: ``conv``: how the kernel walks.
        label: ``recurrent``: which of the layer's values the weight is applied to.
    """

    weight: fx.Node
    source: fx.Node
    operation: Operation
    kind: Kind
    axes: tuple[tuple[int, ...], tuple[int, ...]] = ((0,), (1,))
    source_axes: tuple[int, ...] = (-1,)
    output_axes: tuple[int, ...] = (-1,)
    geometry: Geometry | None = None
    label: str = ""


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of a node, wherever it was given."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _linear(node: fx.Node) -> list[Reading]:
    source, weight = argument(node, 0, "input"), argument(node, 1, "weight")
    return [Reading(weight, source, "linear", "linear")]


def _addmm(node: fx.Node) -> list[Reading]:
    return [_right(argument(node, 1, "mat1"), argument(node, 2, "mat2"), "linear")]


def _matmul(node: fx.Node) -> list[Reading]:
    left, right = argument(node, 0, "self"), argument(node, 1, "other")
    across = -2 if right.meta["val"].ndim > 1 else -1
    turned = Reading(left, right, "linear", "matmul", source_axes=(across,), output_axes=(across,))
    return [_right(left, right, "matmul"), turned]


def _right(left: fx.Node, right: fx.Node, kind: Kind) -> Reading:
    """A product whose right factor is an (in, out) weight."""
    return Reading(right, left, "linear", kind, axes=((1,), (0,)))


def _einsum(node: fx.Node) -> list[Reading]:
    equation: Any = node.args[0]
    operands: Any = node.args[1]
    inputs, arrow, output = str(equation).replace(" ", "").partition("->")
    letters = inputs.split(",")
    if not arrow or "." in str(equation) or len(letters) != 2:
        return []
    first, second = letters
    both = [
        _contraction(operands[0], operands[1], own=first, other=second, output=output),
        _contraction(operands[1], operands[0], own=second, other=first, output=output),
    ]
    return [reading for reading in both if reading is not None]


def _contraction(
    weight: fx.Node, source: fx.Node, *, own: str, other: str, output: str
) -> Reading | None:
    """Weight times source over the letters that the output lacks; None if a letter is in all."""
    outs = [letter for letter in own if letter in output and letter not in other]
    ins = [letter for letter in own if letter not in output and letter in other]
    repeated = len(set(own)) < len(own) or len(set(other)) < len(other)
    if repeated or len(outs) + len(ins) < len(own) or not outs or not ins:
        return None
    return Reading(
        weight,
        source,
        "linear",
        "matmul",
        axes=(tuple(map(own.index, outs)), tuple(map(own.index, ins))),
        source_axes=tuple(map(other.index, ins)),
        output_axes=tuple(map(output.index, outs)),
    )


def _conv(node: fx.Node) -> list[Reading]:
    source, weight = argument(node, 0, "input"), argument(node, 1, "weight")
    settings = [
        argument(node, 3, "stride", 1),
        argument(node, 4, "padding", 0),
        argument(node, 5, "dilation", 1),
        argument(node, 6, "groups", 1),
    ]
    geometry = Geometry.of(weight.meta["val"].shape[2:], settings)
    return [Reading(weight, source, "conv", "conv", geometry=geometry)]


def _embedding(node: fx.Node) -> list[Reading]:
    weight, source = argument(node, 0, "weight"), argument(node, 1, "indices")
    return [Reading(weight, source, "embedding", "embedding")]


def _recurrent(node: fx.Node) -> list[Reading]:
    weights: Any = node.args[2:] if node.target in CELLS else node.args[2]
    source: Any = node.args[0]
    return [
        Reading(weights[part.place], source, "recurrent", "recurrent", label=part.label)
        for part in layout(node.target, node.args).parts()
    ]


READERS: dict[Any, Callable[[fx.Node], list[Reading]]] = {
    _aten.linear.default: _linear,
    _aten.addmm.default: _addmm,
    _aten.mm.default: _matmul,
    _aten.matmul.default: _matmul,
    _aten.einsum.default: _einsum,
    _aten.conv1d.default: _conv,
    _aten.conv2d.default: _conv,
    _aten.conv3d.default: _conv,
    _aten.conv1d.padding: _conv,
    _aten.conv2d.padding: _conv,
    _aten.conv3d.padding: _conv,
    _aten.embedding.default: _embedding,
    **dict.fromkeys(LAYERS | CELLS, _recurrent),
}

SHAPE_ONLY = {
    _aten.sym_size.int,
    _aten.sym_stride.int,
    _aten.sym_numel.default,
    _aten.sym_storage_offset.default,
    _aten._assert_tensor_metadata.default,
}
