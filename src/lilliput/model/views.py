"""Which parameter an operand of a graph node is a view of, and how it is turned and cut."""

import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

_aten = torch.ops.aten
_CASTS = {
    _aten.to.dtype,
    _aten.to.dtype_layout,
    _aten._to_copy.default,
    _aten.detach.default,
    _aten.alias.default,
    _aten.contiguous.default,
    _aten.clone.default,
    _aten.lift_fresh_copy.default,
}
_VIEWS = {
    _aten.t.default,
    _aten.transpose.int,
    _aten.permute.default,
    _aten.numpy_T.default,
    _aten.mT.default,
    _aten.view.default,
    _aten.reshape.default,
    _aten._unsafe_view.default,
    _aten.flatten.using_ints,
    _aten.unflatten.int,
    _aten.squeeze.default,
    _aten.squeeze.dim,
    _aten.unsqueeze.default,
    _aten.slice.Tensor,
    _aten.select.int,
    _aten.narrow.default,
}
_PIECES = {
    _aten.split.Tensor,
    _aten.split_with_sizes.default,
    _aten.split.sizes,
    _aten.chunk.default,
    _aten.unbind.int,
}


@dataclass(frozen=True)
class Operand:
    """A placeholder of the graph seen through a chain of views.

    Attributes:
        root: The graph's placeholder.
        index: For each element of the operand, its position in the flattened parameter; None
            when the operand is the parameter as stored.
    """

    root: fx.Node
    index: Tensor | None


def is_view(node: fx.Node) -> bool:
    """Whether `node` only turns, cuts or casts its first argument."""
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        parent = node.args[0]
        return isinstance(parent, fx.Node) and parent.target in _PIECES
    return node.target in _VIEWS or node.target in _CASTS or node.target in _PIECES


def root_of(node: fx.Node) -> fx.Node:
    """The node at the start of the chain of views that ends in `node`."""
    while is_view(node):
        node = _parent(node)
    return node


def operand(node: fx.Node, *, always: bool = False) -> Operand:
    """Follows views from `node` back to where they start and records which elements are left.

    Args:
        node: An argument of an operation.
        always: Give an index even for a parameter as stored.
    """
    chain: list[fx.Node] = []
    root = node
    while is_view(root):
        if root.target not in _CASTS:
            chain.append(root)
        root = _parent(root)
    if not chain and not always:
        return Operand(root, None)
    shape = tuple(root.meta["val"].shape)
    elements = torch.arange(math.prod(shape), dtype=torch.int32)
    value: Any = elements.reshape(shape)
    for step in reversed(chain):
        if step.target is operator.getitem:
            value = value[step.args[1]]
        else:
            value = step.target(value, *step.args[1:], **step.kwargs)  # type: ignore[operator]
    whole = tuple(value.shape) == shape and torch.equal(value.reshape(-1), elements)
    return Operand(root, None if whole and not always else value)


def _parent(node: fx.Node) -> fx.Node:
    parent = node.args[0]
    if not isinstance(parent, fx.Node):
        raise TypeError(f"{node.format_node()} has no tensor as its first argument")
    return parent


@dataclass(frozen=True)
class Orientation:
    """How an (out, in) operand lies in its parameter.

    Attributes:
        rows: Rows of the parameter's matrix view.
        columns: Columns of the parameter's matrix view.
        transposed: The parameter is stored (in, out).
        row_index: Rows of the matrix view which the operand consists of; None means all, in order.
        column_index: The same for columns.
    """

    rows: int
    columns: int
    transposed: bool
    row_index: Tensor | None = None
    column_index: Tensor | None = None


def orient(shape: tuple[int, ...], index: Tensor | None) -> Orientation | None:
    """Finds rows and columns of the parameter's matrix view behind an (out, in) operand.

    Args:
        shape: Shape of the parameter.
        index: (out, in) positions in the flattened parameter; None for a 2-D parameter as stored.

    Returns:
        None when the operand is no set of rows times a set of columns of one matrix view.
    """
    if index is None:
        return Orientation(shape[0], shape[1], False) if len(shape) == 2 else None
    for split in range(1, len(shape)):
        columns = math.prod(shape[split:])
        found = _outer(index // columns, index % columns)
        if found:
            rows = math.prod(shape[:split])
            return Orientation(rows, columns, False, _all(found[0], rows), _all(found[1], columns))
    if len(shape) == 2:
        found = _outer(index % shape[1], index // shape[1])
        if found:
            rows, columns = shape[1], shape[0]
            return Orientation(rows, columns, True, _all(found[0], rows), _all(found[1], columns))
    return None


def _outer(row: Tensor, column: Tensor) -> tuple[Tensor, Tensor] | None:
    """Row numbers (out,) and column numbers (in,) if each varies along its own axis only."""
    if bool((row == row[:, :1]).all()) and bool((column == column[:1]).all()):
        return row[:, 0], column[0]
    return None


def _all(index: Tensor, size: int) -> Tensor | None:
    return None if torch.equal(index, torch.arange(size, dtype=index.dtype)) else index
