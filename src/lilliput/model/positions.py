"""Which rows of a value belong to masked positions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from lilliput.errors import TaskError
from lilliput.model.calls import arguments
from lilliput.model.sizes import hint, symbol

Mask = str | int | Callable[[Any], Tensor | None] | None

Names = list[str | None]
_RESHAPES = {
    torch.ops.aten.view.default,
    torch.ops.aten.reshape.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.flatten.using_ints,
}


def mask_of(mask: Mask, inputs: Any) -> Tensor | None:
    """The (batch, positions) mask of one batch, float32, or None where everything counts.

    Args:
        mask: Name or position of an input, a function of the inputs, or None.

    Raises:
        TaskError: The mask is not (batch, positions).
    """
    if mask is None:
        return None
    if callable(mask):
        found = mask(inputs)
    else:
        args, kwargs = arguments(inputs)
        named: dict[str | int, Any] = dict(enumerate(args))
        named.update(kwargs)
        found = named.get(mask)
    if found is None:
        return None
    if found.ndim != 2:
        raise TaskError(
            f"the mask must be (batch, positions), got {tuple(found.shape)}",
            "1 keeps a position, 0 leaves it out",
        )
    return (found != 0).float()


class Positions:
    """Finds the mask's axes among those of a value, by symbol where the graph has symbols."""

    def __init__(self, mask: Tensor, program: ExportedProgram | None = None) -> None:
        self.mask = mask
        self.symbols: Names = [None, None]
        self.nodes: dict[str, fx.Node] = {}
        if program is not None:
            self.symbols = _symbols(program)
            self.nodes = {node.name: node for node in program.graph.nodes}

    def weights(self, sizes: tuple[int, ...], source: str = "") -> Tensor | None:
        """How often each row of a value counts, flattened over `sizes`; None means once each.

        Args:
            sizes: Sizes of the value without its last (input) axis.
            source: Name of the graph's node of the value, for the symbols of its axes.
        """
        batch, length = self.mask.shape
        node = self.nodes.get(source)
        names = _axis_names(node, len(sizes))
        if sizes and sizes[0] == batch * length and (len(sizes) == 1 or sizes[0] != batch):
            mask = self.mask.t() if self._flattened_by_position(node) else self.mask
            return _spread(mask.reshape(-1), sizes, (0,))
        where = self._axes(sizes, names)
        if where is not None:
            first, second = where
            mask = self.mask if first < second else self.mask.t()
            return _spread(mask, sizes, tuple(sorted(where)))
        if len(sizes) >= 2 and sizes[0] == 1 and sizes[1] == length:
            return _spread(self.mask.sum(0), sizes, (1,))
        other = names[0] != self.symbols[0] if names and self.symbols[0] else batch != length
        if sizes and sizes[0] == length and other:
            return _spread(self.mask.sum(0), sizes, (0,))
        return None

    def _axes(self, sizes: tuple[int, ...], names: Names) -> tuple[int, int] | None:
        """Axes of the batch and of the positions."""
        batch = _find(sizes, names, (self.mask.shape[0], self.symbols[0]), skip=None)
        if batch is None:
            return None
        position = _find(sizes, names, (self.mask.shape[1], self.symbols[1]), skip=batch)
        return None if position is None else (batch, position)

    def _flattened_by_position(self, node: fx.Node | None) -> bool:
        """Whether (batch, position) was flattened with the position running slower."""
        while node is not None and node.op == "call_function":
            source = node.args[0] if node.args else None
            if not isinstance(source, fx.Node):
                return False
            if node.target in _RESHAPES:
                shape = tuple(source.meta["val"].shape)
                where = self._axes(tuple(map(hint, shape)), _axis_names(source, len(shape)))
                if where is not None and max(where) <= 1:
                    return where[0] > where[1]
            node = source
        return False


def _find(
    sizes: tuple[int, ...],
    names: Names,
    wanted: tuple[int, str | None],
    *,
    skip: int | None,
) -> int | None:
    size, symbol = wanted
    axes = [axis for axis in range(len(sizes)) if axis != skip]
    if symbol is not None:
        exact = [axis for axis in axes if names[axis] == symbol]
        if exact or any(name is not None for name in names):
            return exact[0] if exact else None
    return next((axis for axis in axes if sizes[axis] == size), None)


def _spread(mask: Tensor, sizes: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """Repeats the mask over the axes it does not have; flattened."""
    shape = [sizes[axis] if axis in axes else 1 for axis in range(len(sizes))]
    return mask.reshape(shape).expand(sizes).reshape(-1)


def _axis_names(node: fx.Node | None, axes: int) -> Names:
    """The symbol of each axis of a node's value; None where it is a constant."""
    value = None if node is None else node.meta.get("val")
    shape = value.shape if isinstance(value, Tensor) else ()
    named: Names = [symbol(size) for size in shape]
    missing: Names = [None] * axes
    return (named + missing)[:axes]


def _symbols(program: ExportedProgram) -> Names:
    """Symbols of the first two axes of the first input that has them."""
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        value = node.meta.get("val")
        given = node.op == "placeholder" and node.name in names
        if given and isinstance(value, Tensor) and value.ndim >= 2:
            return _axis_names(node, 2)
    return [None, None]
