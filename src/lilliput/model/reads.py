"""The table of graph operations that read a weight: which argument it is, and what it multiplies.

An operation that is not in the table freezes every weight it touches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

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
        turned: ``linear`` only: the operand is (in, out) rather than (out, in).
        source_axis: ``linear`` only: axis of the source that holds the inputs.
        part: ``recurrent`` only: position in the node's list of weights.
    """

    weight: fx.Node
    source: fx.Node
    operation: Operation
    kind: Kind
    turned: bool = False
    source_axis: int = -1
    part: int = 0


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _linear(node: fx.Node) -> list[Reading]:
    source, weight = _argument(node, 0, "input"), _argument(node, 1, "weight")
    return [Reading(weight, source, "linear", "linear")]


def _addmm(node: fx.Node) -> list[Reading]:
    return [
        Reading(right, left, "linear", "linear", turned=True) for left, right in [_pair(node, 1)]
    ]


def _matmul(node: fx.Node) -> list[Reading]:
    left, right = _pair(node, 0)
    return [
        Reading(right, left, "linear", "matmul", turned=True),
        Reading(left, right, "linear", "matmul", source_axis=-2),
    ]


def _pair(node: fx.Node, first: int) -> tuple[fx.Node, fx.Node]:
    return node.args[first], node.args[first + 1]  # type: ignore[return-value]


def _conv(node: fx.Node) -> list[Reading]:
    source, weight = _argument(node, 0, "input"), _argument(node, 1, "weight")
    return [Reading(weight, source, "conv", "conv")]


def _embedding(node: fx.Node) -> list[Reading]:
    weight, source = _argument(node, 0, "weight"), _argument(node, 1, "indices")
    return [Reading(weight, source, "embedding", "embedding")]


READERS: dict[Any, Callable[[fx.Node], list[Reading]]] = {
    _aten.linear.default: _linear,
    _aten.addmm.default: _addmm,
    _aten.mm.default: _matmul,
    _aten.matmul.default: _matmul,
    _aten.conv1d.default: _conv,
    _aten.conv2d.default: _conv,
    _aten.conv3d.default: _conv,
    _aten.conv1d.padding: _conv,
    _aten.conv2d.padding: _conv,
    _aten.conv3d.padding: _conv,
    _aten.embedding.default: _embedding,
}

SHAPE_ONLY = {
    _aten.sym_size.int,
    _aten.sym_stride.int,
    _aten.sym_numel.default,
    _aten.sym_storage_offset.default,
}
