"""Error-feedback rounding onto bounded grids that differ from group to group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lilliput.tensor.feedback import RowFactor, feed_back
from lilliput.tensor.ranges import Ranges
from lilliput.tensor.second_order import inverse_factor

FEWEST_ROWS = 16
MOST_ROW_BLOCKS = 16


@dataclass(frozen=True)
class ColumnOrder:
    """Columns in the order in which they are rounded: those that count most come first.

    Attributes:
        order: (columns,) places.
        factor: `inverse_factor` of H in that order, (columns, columns).
    """

    order: Tensor
    factor: Tensor

    @classmethod
    def of(cls, second: Tensor) -> "ColumnOrder":
        """By falling diagonal of H, (columns, columns)."""
        order = torch.argsort(second.diagonal(), descending=True, stable=True)
        return cls(order, inverse_factor(second[order][:, order]))

    @property
    def costs(self) -> Tensor:
        """(columns,) in their own order: what an error costs once later columns made up for it."""
        found = torch.empty(len(self.order))
        found[self.order] = self.factor.diagonal().square().reciprocal()
        return found


def feedback_grouped(
    weight: Tensor,
    columns: Sequence[ColumnOrder],
    *,
    ranges: Ranges,
    rows: RowFactor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """Column after column takes its nearest code; later columns, and rows, absorb the error.

    Arxiv 2210.17323 with grids fixed beforehand and, where `rows` is given, arXiv 2505.22988.
    Errors beyond the ends of a grid are absorbed like any other.

    Args:
        weight: (out, in).
        columns: The column side of each group; the rows are split evenly over them in order.
        ranges: Grids.
        rows: Where errors go from row to row; only without groups.
        kept: (out, in) bool, False where the value must be zero; None where none must.

    Returns:
        (out, in) float32 codes.
    """
    size, codes = len(weight) // len(columns), torch.empty(weight.shape)
    for at, side in enumerate(columns):
        which = slice(at * size, (at + 1) * size)
        free = None if kept is None else kept[which]
        codes[which] = _Rows(weight[which], side, ranges.of(which), rows, free).codes()
    return codes


class _Rows:
    """Some rows that read the same inputs, turned to the order in which they are rounded."""

    def __init__(
        self,
        weight: Tensor,
        side: ColumnOrder,
        ranges: Ranges,
        between: RowFactor | None,
        kept: Tensor | None,
    ) -> None:
        out, wide = weight.shape
        order = torch.arange(out) if between is None else between.order
        self.places = order[:, None], side.order[None, :]
        self.factor, self.between, self.top = side.factor, between, 2**ranges.bits - 1
        self.steps, self.zeros = (self._turned(part).numpy() for part in ranges.spread(wide))
        self.kept = None if kept is None else self._turned(kept).numpy()
        self.weight = weight.to(torch.float32)[self.places]
        self.found, self.left = torch.empty(wide, out), torch.empty(wide, out)

    def codes(self) -> Tensor:
        """Block of rows after block of rows, in the rows' and columns' own order."""
        out = len(self.weight)
        size = out if self.between is None else max(FEWEST_ROWS, -(-out // MOST_ROW_BLOCKS))
        for start in range(0, out, size):
            self._block(slice(start, min(start + size, out)))
        codes = torch.empty_like(self.weight)
        codes[self.places] = self.found.t()
        return codes

    def _turned(self, part: Tensor) -> Tensor:
        """(out, in) in their own order as (in, out) in the order of rounding, contiguous."""
        return part[self.places].t().contiguous()

    def _block(self, block: slice) -> None:
        """In numpy, whose calls cost less than torch's on such small arrays."""
        found, left = (part[:, block].numpy() for part in (self.found, self.left))
        steps, zeros = self.steps[:, block], self.zeros[:, block]
        kept = None if self.kept is None else self.kept[:, block]
        asked = None  # by the rows before
        if self.between is not None and block.start:
            moved = self.between.factor[: block.start, block]
            asked = (self.left[:, : block.start] @ moved).numpy()  # (in, block)

        def meet(column: Tensor, place: int) -> Tensor:
            given = column.numpy()
            code = (given if asked is None else given + asked[place]) / steps[place] + zeros[place]
            np.rint(code, out=code)
            np.minimum(np.maximum(code, 0, out=code), self.top, out=code)
            if kept is not None:
                code = np.where(kept[place], code, zeros[place])
            value = (code - zeros[place]) * steps[place]
            found[place], left[place] = code, given - value
            return torch.from_numpy(value)

        feed_back(self.weight[block], self.factor, meet=meet)
