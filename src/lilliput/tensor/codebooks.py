"""Shared values: where they lie best, and which weight takes which."""

import torch
from torch import Tensor

from lilliput.tensor.feedback import RowFactor, feed_back, row_block

ROUNDS = 30


def centres(values: Tensor, weights: Tensor, *, count: int) -> Tensor:
    """Weighted k-means in one dimension (Lloyd 1982), started between quantiles and even spacing.

    Args:
        values: (n,) to be replaced by centres.
        weights: (n,) >= 0, what a squared error of each costs.
        count: Number of centres, >= 1.

    Returns:
        (count,) float32 in rising order.
    """
    order = torch.argsort(values)
    ordered = values[order].to(torch.float64)
    mass = torch.cat([torch.zeros(1).double(), weights[order].to(torch.float64).cumsum(0)])
    moment = torch.cat([torch.zeros(1).double(), (weights[order] * ordered).double().cumsum(0)])
    shares = torch.linspace(0, 1, 2 * count + 1, dtype=torch.float64)[1::2] * mass[-1]
    places = torch.searchsorted(mass[1:], shares).clamp_max(len(ordered) - 1)
    inner = len(ordered) // 1000
    even = torch.linspace(float(ordered[inner]), float(ordered[-1 - inner]), count)
    found = (ordered[places] + even.double()) / 2
    for _ in range(ROUNDS):
        borders = torch.searchsorted(ordered, (found[1:] + found[:-1]) / 2)
        edges = torch.cat([torch.zeros(1).long(), borders, torch.tensor([len(ordered)])])
        share, total = mass[edges].diff(), moment[edges].diff()
        found = torch.where(share > 0, total / share.clamp_min(1e-300), found).sort().values
    return found.to(torch.float32)


def nearest(values: Tensor, centres_: Tensor) -> Tensor:
    """Index of the nearest centre, uint8, in the shape of `values`; `centres_` rises."""
    borders = (centres_[1:] + centres_[:-1]) / 2
    return torch.bucketize(values.contiguous(), borders).to(torch.uint8)


def feedback_indices(
    weight: Tensor,
    factor: Tensor,
    *,
    centres_: Tensor,
    fixed: Tensor | None = None,
    rows: RowFactor | None = None,
) -> Tensor:
    """Column after column takes its nearest value; later columns, and later rows, absorb the error.

    Error feedback (arXiv 2210.17323) onto values of any spacing, as `feedback_codes` onto a grid:
    what earlier rows ask of a block of rows moves what they aim at, and is no error of theirs.

    Args:
        weight: (out, in).
        factor: Upper Cholesky factor U of the inverse of the second moments, (in, in).
        centres_: (count,) rising.
        fixed: (out, in) indices that are given, -1 where free; or None.
        rows: Where errors go from row to row, in the units of `weight`; or None.

    Returns:
        (out, in) uint8 indices.
    """
    given = None if fixed is None else fixed.long()
    if rows is None:
        return _column_after_column(weight, factor, centres_, given, None)
    order, between = rows.order, rows.factor
    found = torch.empty(weight.shape, dtype=torch.uint8)
    errors = torch.empty(weight.shape)  # E of W - V = E U
    size = row_block(len(weight))
    for start in range(0, len(weight), size):
        block = slice(start, min(start + size, len(weight)))
        here = order[block]
        asked = (between[:start, block].t() @ errors[:start]) * factor.diagonal()
        held = None if given is None else given[here]
        taken = _column_after_column(weight[here], factor, centres_, held, asked)
        lost = weight[here] - centres_[taken.long()]
        errors[block] = torch.linalg.solve_triangular(factor, lost, upper=True, left=False)
        found[here] = taken
    return found


def _column_after_column(
    weight: Tensor, factor: Tensor, centres_: Tensor, given: Tensor | None, asked: Tensor | None
) -> Tensor:
    taken = torch.empty(weight.shape, dtype=torch.uint8)

    def meet(column: Tensor, place: int) -> Tensor:
        index = nearest(column if asked is None else column + asked[:, place], centres_)
        if given is not None:
            index = torch.where(given[:, place] < 0, index.long(), given[:, place]).byte()
        taken[:, place] = index
        return centres_[index.long()]

    feed_back(weight, factor, meet=meet)
    return taken
