"""Where a site is read, and how the rows it is read with make groups."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor

from lilliput.model.convolution import Geometry
from lilliput.model.reads import Operation
from lilliput.model.sites import Site

_MOST_GROUPS = 64


@dataclass(frozen=True, eq=False)
class Use:
    """One place that reads a site.

    Attributes:
        site: Name of the site.
        operation: How the weight is applied to its source.
        where: The graph's node, or the module, that reads it.
        source: Name of what it is applied to: a node of the graph, or a module and its argument.
        source_axes: ``linear``: axes of the source that hold the inputs.
        output_axes: ``linear``: axes of the result that hold the outputs.
        geometry: ``conv``: how the kernel walks over the source.
        label: ``recurrent``: which of the layer's values the weight is applied to.
        row_index: Rows of the site's matrix view that are read; None means all.
        column_index: The same for columns.
    """

    site: str
    operation: Operation
    where: str
    source: str
    source_axes: tuple[int, ...] = (-1,)
    output_axes: tuple[int, ...] = (-1,)
    geometry: Geometry | None = None
    label: str = ""
    row_index: Tensor | None = None
    column_index: Tensor | None = None

    @property
    def key(self) -> Hashable:
        """Uses with the same key are applied to the same rows of numbers."""
        return (self.source, self.operation, self.source_axes, self.geometry, self.label)

    @property
    def result(self) -> str:
        """Name of what a convolution gives, among a `Transparent` model's values."""
        return f"{self.where} result"

    def inputs(self, source: Tensor) -> Tensor:
        """``linear``: the source with its inputs flattened into the last axis."""
        return _last(source, self.source_axes)

    def outputs(self, result: Tensor) -> Tensor:
        """The result with the outputs (an embedding's columns) flattened into the last axis."""
        if self.geometry is not None:
            return result.movedim(-1 - len(self.geometry.kernel), -1)
        return _last(result, self.output_axes)


def _last(value: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The value with some of its axes moved to the end and flattened."""
    if axes == (-1,):
        return value
    moved = value.movedim(axes, tuple(range(-len(axes), 0)))
    return moved.flatten(-len(axes)) if len(axes) > 1 else moved


def row_groups(site: Site, uses: Sequence[Use]) -> int:
    """Into how many equal groups a site's rows fall so that each group has one set of sources.

    A packed attention projection whose query comes from one place and whose key and value come
    from another has three. Returns 0 where no small number of equal groups will do.
    """
    if site.groups > 1 or all(use.row_index is None for use in uses):
        return site.groups
    readers: list[set[Hashable]] = [set() for _ in range(site.rows)]
    for use in uses:
        rows = range(site.rows) if use.row_index is None else use.row_index.tolist()
        for row in rows:
            readers[row].add(use.key)
    edges = [row for row in range(1, site.rows) if readers[row] != readers[row - 1]]
    groups = site.rows // math.gcd(site.rows, *edges)
    return groups if groups <= _MOST_GROUPS else 0
