"""A site on its way to shared values: what its weights are worth, and which value each takes."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lilliput.model.encodings import Codebook
from lilliput.model.sites import Site
from lilliput.techniques.groups import by_group
from lilliput.tensor.codebooks import feedback_indices, nearest
from lilliput.tensor.feedback import RowFactor
from lilliput.tensor.second_order import inverse_factor


@dataclass(frozen=True)
class Part:
    """A site whose weights will share values.

    Attributes:
        scaled: (rows, columns) weights over the sizes of their rows.
        sizes: (rows,).
        costs: (rows, columns) what a squared error of a scaled weight costs by itself.
        kept: (rows, columns) bool, False where an earlier step removed; None where none did.
        second: Column side H, (groups, columns, columns).
        rows: Where errors go from row to row of the weight; None without a whole row side.
    """

    scaled: Tensor
    sizes: Tensor
    costs: Tensor
    kept: Tensor | None
    second: Tensor
    rows: RowFactor | None

    def chosen(self, matrix: Tensor) -> Tensor:
        """Its entries that are kept, flat."""
        return matrix.flatten() if self.kept is None else matrix[self.kept]

    def nearest(self, book: Tensor) -> Tensor:
        """(rows, columns) indices of the nearest values; zero's where something was removed."""
        found = nearest(self.scaled, book)
        return found if self.kept is None else torch.where(self.kept, found, zero_in(book)).byte()

    def ordered(self) -> "Ordered":
        """Columns that are read most first: with few values, the last ones err most."""
        diagonal = self.second.diagonal(dim1=1, dim2=2)
        orders = torch.argsort(diagonal, dim=1, descending=True, stable=True)
        second = torch.stack(
            [side[order][:, order] for side, order in zip(self.second, orders, strict=True)]
        )
        kept = None if self.kept is None else _moved(self.kept, orders)
        return Ordered(
            _moved(self.scaled, orders), kept, inverse_factor(second), orders, self._rows()
        )

    def _rows(self) -> RowFactor | None:
        """The same in units of the scaled rows."""
        if self.rows is None:
            return None
        sizes = self.sizes[self.rows.order]
        return replace(self.rows, factor=self.rows.factor * (sizes[:, None] / sizes[None, :]))


@dataclass(frozen=True)
class Ordered:
    """The same with the columns of each group in the order in which they are met.

    Attributes:
        factor: `inverse_factor` of the column side, (groups, columns, columns).
        orders: (groups, columns) places of the columns in the site.
    """

    scaled: Tensor
    kept: Tensor | None
    factor: Tensor
    orders: Tensor
    rows: RowFactor | None

    def fed(self, book: Tensor) -> Tensor:
        """(rows, columns) indices by error feedback; zero's where something was removed."""
        fixed = None if self.kept is None else torch.where(self.kept, -1, zero_in(book))
        return by_group(
            self.scaled,
            self.factor,
            solve=lambda rows, side, which: feedback_indices(
                rows,
                side,
                centres_=book,
                fixed=None if fixed is None else fixed[which],
                rows=self.rows,
            ),
        )

    def back(self, indices: Tensor) -> Tensor:
        """In the order of the site's columns."""
        return _moved(indices, torch.argsort(self.orders, dim=1))


@dataclass(frozen=True)
class Shared:
    """Values of some sites, and which weight has which.

    Attributes:
        values: (count,) rising.
        indices: (rows, columns) uint8 for each site.
    """

    values: Tensor
    indices: list[Tensor]

    def codebook(self, site: Site, *, part: Part, place: int) -> Codebook:
        """What one of the sites became."""
        return Codebook(
            codes=self.indices[place],
            values=self.values,
            row_steps=part.sizes,
            shape=site.shape,
            transposed=site.transposed,
        )


def zero_in(book: Tensor) -> int:
    """The place of the value nearest to zero."""
    return int(nearest(torch.zeros(1), book))


def _moved(matrix: Tensor, orders: Tensor) -> Tensor:
    """The columns of each group's rows in that group's order."""
    rows = len(matrix) // len(orders)
    return matrix.gather(1, orders.repeat_interleave(rows, 0))
