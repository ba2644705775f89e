"""What weights are applied to at a node of the graph, and the rows of numbers that this makes."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, fx

from lilliput.model.convolution import patch_rows, patches, thinning
from lilliput.model.recurrent import applied_to
from lilliput.model.uses import Use


def sources_at(node: fx.Node, args: tuple[Any, ...], uses: Sequence[Use]) -> dict[Use, Tensor]:
    """The tensor that each use at a node is applied to.

    Args:
        node: Where the uses are.
        args: Its arguments, values in place of nodes.
        uses: Of this node.
    """
    derived: dict[str, Tensor] = {}
    if any(use.operation == "recurrent" for use in uses):
        seen = applied_to(node.target, args)
        derived = {f"{node.name} {label}": value for label, value in seen.items()}
    return {
        use: derived[use.label] if use.label in derived else _given(use, node, args) for use in uses
    }


def source_rows(use: Use, source: Tensor, *, most_positions: int) -> Iterator[Tensor]:
    """The rows a use's weight is multiplied with, in bounded pieces; not of an embedding.

    Args:
        use: The use.
        source: Its source: a map, or a tensor with the inputs on `use.source_axes`.
        most_positions: Of a larger feature map an evenly spaced part of about so many positions
            per example is taken.

    Yields:
        (groups, n, columns); the same positions for every source of one shape.
    """
    if use.geometry is None:
        rows = use.inputs(source)
        yield rows.reshape(1, -1, rows.shape[-1])
        return
    view = patches(source, use.geometry)
    dims = len(use.geometry.kernel)
    step = thinning(view.shape[1 : 1 + dims], most_positions)
    thin = (slice(None), *[slice(None, None, step)] * dims)
    for rows, _ in patch_rows(view[thin], use.geometry.groups):
        yield rows


def result_rows(use: Use, result: Tensor, *, most_positions: int) -> Tensor:
    """The rows of a result that belong to `source_rows`, all at once: (n, outputs)."""
    value = use.outputs(result)
    if use.geometry is not None:
        dims = len(use.geometry.kernel)
        whole = value if value.ndim == dims + 2 else value[None]
        step = thinning(whole.shape[1 : 1 + dims], most_positions)
        value = whole[(slice(None), *[slice(None, None, step)] * dims)]
    return value.reshape(-1, value.shape[-1])


def _given(use: Use, node: fx.Node, args: tuple[Any, ...]) -> Tensor:
    """The value of the argument that is the use's source."""
    for fed, given in zip(_leaves(node.args), _leaves(args), strict=True):
        if isinstance(fed, fx.Node) and fed.name == use.source and isinstance(given, Tensor):
            return given
    raise TypeError(f"{node.name} does not read {use.source}")


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]
