"""Shared values: where they lie best, and which weight takes which."""

import torch
from torch import Tensor

from lilliput.tensor.feedback import feed_back

ROUNDS = 30
ROWS_AT_ONCE = 2048
RIDGE = 1e-6  # of the mean diagonal: values that stand for nearly the same weights


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
    weight: Tensor, factor: Tensor, *, centres_: Tensor, fixed: Tensor | None
) -> Tensor:
    """Column after column takes its nearest value; later columns absorb the error.

    Error feedback (arXiv 2210.17323) onto values of any spacing.

    Args:
        weight: (rows, columns).
        factor: Upper Cholesky factor of the inverse of the second moments, (columns, columns).
        centres_: (count,) rising.
        fixed: (rows, columns) indices that are given, -1 where free; or None.

    Returns:
        (rows, columns) uint8 indices.
    """
    taken = torch.empty(weight.shape, dtype=torch.uint8)

    def meet(column: Tensor, place: int) -> Tensor:
        index = nearest(column, centres_)
        if fixed is not None:
            given = fixed[:, place]
            index = torch.where(given < 0, index.long(), given).to(torch.uint8)
        taken[:, place] = index
        return centres_[index.long()]

    feed_back(weight, factor, meet=meet)
    return taken


def value_equations(
    scaled: Tensor, indices: Tensor, *, second: Tensor, worth: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """A v = b for the values v that cost least if every weight keeps its index.

    The damage ``tr(G E H E^T)`` is quadratic in the values; equations of several sites add up.

    Args:
        scaled: (rows, columns) weights over the sizes of their rows.
        indices: (rows, columns) which value each has.
        second: Column side H, (columns, columns).
        worth: (rows,) what a squared error of a scaled row counts.
        count: Number of values.

    Returns:
        A, (count, count), and b, (count,), float64.
    """
    left = torch.zeros(count, count, dtype=torch.float64)
    right = torch.zeros(count, dtype=torch.float64)
    for start in range(0, len(scaled), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        root = worth[rows].sqrt()[:, None]
        masks = torch.stack([(indices[rows] == k) * root for k in range(count)])
        seen = (masks @ second).flatten(1)
        left += (seen @ masks.flatten(1).t()).double()
        right += (seen @ (scaled[rows] * root).flatten()).double()
    return left, right


def solved_values(equations: tuple[Tensor, Tensor], before: Tensor, *, free: Tensor) -> Tensor:
    """The values that solve `value_equations`; those that are not free, or unused, stay.

    Args:
        equations: A and b.
        before: (count,) values so far.
        free: (count,) bool.

    Returns:
        (count,) float32, in the order of the indices.
    """
    left, right = equations
    free = free & (left.diagonal() > 0)
    held = torch.where(free, 0.0, before.double())
    inner = left[free][:, free]
    inner = inner + RIDGE * inner.diagonal().mean() * torch.eye(len(inner), dtype=torch.float64)
    found = before.double().clone()
    if free.any():
        found[free] = torch.linalg.solve(inner, right[free] - left[free] @ held)
    return found.to(torch.float32)
