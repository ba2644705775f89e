"""Products of factors under the one metric: chains of linear maps, and of convolutions.

Every factor has the layout of a convolution's weight, (out, in, *kernel), a linear map without a
kernel; on every axis of the kernel at most one factor is longer than one, and a factor with one
input per output on more than one channel is depthwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 20  # of conjugate gradients for one factor
SWEEPS = 4
SMALLEST = 1e-6  # of the mean: directions of less energy are not inverted


@dataclass(frozen=True)
class Metric:
    """What losing E of a weight costs: ``tr(G E H E^T)``.

    Attributes:
        second: H, (in * taps, in * taps) float32, positive semidefinite.
        output: G, (out, out), or its diagonal, (out,).
    """

    second: Tensor
    output: Tensor

    def cost(self, lost: Tensor) -> float:
        """Damage of a loss, (out, in * taps)."""
        return float((self.times(lost) * lost).sum())

    def times(self, lost: Tensor) -> Tensor:
        """``G E H``, (out, in * taps)."""
        return self.left(lost @ self.second)

    def left(self, matrix: Tensor) -> Tensor:
        """``G M`` for a matrix with as many rows as the weight has."""
        return self.output[:, None] * matrix if self.output.dim() == 1 else self.output @ matrix


def chained(factors: Sequence[Tensor]) -> Tensor:
    """The one weight that does what the factors do one after the other.

    Args:
        factors: (channels, channels before, *kernel) each; see the module.

    Returns:
        (out, in, *kernel).
    """
    whole = factors[0]
    for factor in factors[1:]:
        if factor.shape[1] == whole.shape[0]:
            whole = torch.einsum("om...,mi...->oi...", factor, whole)
        else:  # depthwise
            whole = factor * whole
    return whole


def last_factor(before: Tensor, weight: Tensor, *, second: Tensor) -> Tensor:
    """The last factor that loses least, given all before it: least squares.

    ``A = W H Q^T (Q H Q^T)^-1``; the row side makes no difference.

    Args:
        before: Q, (rank, columns), what the factors before it make of the input.
        weight: W, (rows, columns).
        second: H, (columns, columns).

    Returns:
        (rows, rank) float32.
    """
    seen = (before @ second).double()  # (rank, columns)
    normal = seen @ before.double().t()  # (rank, rank)
    diagonal = normal.diagonal()
    diagonal += SMALLEST * diagonal.mean().clamp_min(1e-30)
    solved: Tensor = torch.linalg.solve(normal, seen @ weight.double().t())
    return solved.t().float()


def fitted_factor(
    factors: Sequence[Tensor], place: int, *, weight: Tensor, metric: Metric
) -> Tensor:
    """One factor fitted so that the product loses least, the others held: conjugate gradients.

    Args:
        factors: As for `chained`; the search starts from the one in its place.
        place: Which one.
        weight: (rows, columns) of the product.
        metric: What a loss costs.

    Returns:
        The factor, in its own shape.
    """
    before = [chained(factors[:place])] if place else []

    def image(factor: Tensor) -> Tensor:
        return chained([*before, factor, *factors[place + 1 :]]).reshape(weight.shape)

    found = factors[place].clone()
    product, pull = torch.func.vjp(image, found)  # type: ignore[misc]
    (residual,) = pull(metric.times(weight - product))
    direction, size = residual, float(residual.square().sum())
    start = size
    for _ in range(ROUNDS):
        if not size > 1e-10 * start:
            break
        (moved,) = pull(metric.times(image(direction)))
        curve = float((direction * moved).sum())
        if not curve > 0:
            break
        found = found + size / curve * direction
        residual = residual - size / curve * moved
        size, last = float(residual.square().sum()), size
        direction = residual + size / last * direction
    return found


def alternated(
    factors: Sequence[Tensor], *, weight: Tensor, metric: Metric, sweeps: int = SWEEPS
) -> list[Tensor]:
    """Each factor in turn fitted to the others, the last in closed form; never worse than before.

    Args:
        factors: As for `chained`.
        weight: (rows, columns) of the product.
        metric: What a loss costs.
        sweeps: How often each has its turn.
    """

    def cost(some: Sequence[Tensor]) -> float:
        return metric.cost(weight - chained(some).reshape(weight.shape))

    best, least = list(factors), cost(factors)
    for _ in range(sweeps):
        tried = list(best)
        for place in range(len(tried) - 1):
            tried[place] = fitted_factor(tried, place, weight=weight, metric=metric)
        before = prefix(tried[:-1], tried[-1].shape)
        last = last_factor(before, weight, second=metric.second)
        tried[-1] = last.reshape(tried[-1].shape)
        now = cost(tried)
        if not now < least:
            break
        best, least = tried, now
    return best


def prefix(factors: Sequence[Tensor], then: Sequence[int]) -> Tensor:
    """What a dense factor after these reads, as a map of the whole product's inputs.

    Args:
        factors: All factors before the last; none of them for the first.
        then: Shape of the last factor, (out, channels, *kernel).

    Returns:
        (channels * taps of the last, columns of the product).
    """
    channels, kernel = then[1], list(then[2:])
    width = channels * math.prod(kernel)
    unit = torch.eye(width).reshape(width, channels, *kernel)
    return chained([*factors, unit]).reshape(width, -1)


def marginal(second: Tensor, kernel: Sequence[int], *, walked: Sequence[int]) -> Tensor:
    """H of some axes of the kernel only: the mean over places on the others.

    Args:
        second: (in * taps, in * taps).
        kernel: Sizes of the whole kernel.
        walked: The same, 1 on the axes that are left out.

    Returns:
        (in * walked taps, in * walked taps).
    """
    channels = len(second) // math.prod(kernel)
    axes = len(kernel) + 1
    wide = second.reshape(channels, *kernel, channels, *kernel)
    for axis, (size, left) in enumerate(zip(kernel, walked, strict=True), 1):
        if left < size:
            mean = wide.diagonal(dim1=axis, dim2=axes + axis).mean(-1)
            wide = mean.unsqueeze(axis).unsqueeze(axes + axis)
    width = channels * math.prod(walked)
    return wide.reshape(width, width)


def output_side(after: Sequence[Tensor], channels: int, *, output: Tensor) -> Tensor:
    """G as a factor sees it whose outputs go through others.

    Args:
        after: The factors after it.
        channels: Its own outputs.
        output: G of the product, (out, out), or its diagonal, (out,).

    Returns:
        (channels, channels); for the last factor the given G.
    """
    if not after:
        return output
    unit = torch.eye(channels).reshape(channels, channels, *[1] * (after[0].dim() - 2))
    whole = chained([unit, *after]).reshape(after[-1].shape[0], channels, -1)
    side = torch.zeros(channels, channels)
    for tap in whole.unbind(2):  # (out, channels)
        side += tap.t() @ (output[:, None] * tap if output.dim() == 1 else output @ tap)
    return side
