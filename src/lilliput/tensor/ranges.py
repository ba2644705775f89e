"""Grids of few bits with a step, and a code that means zero, per row and group of columns."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

CLIPS = 20  # ends of the grid that are tried, evenly spaced up to the extremes
NARROWEST = {2: 0.25, 3: 0.4, 4: 0.5}  # share of the extremes where the search begins
NARROWEST_OF_MORE = 0.75
SMALLEST_HALF = 2.0**-20  # smaller numbers keep less than 5 bits in half precision
HALF_LARGEST = 65504.0


@dataclass(frozen=True)
class Ranges:
    """The grid of each row and group.

    Attributes:
        steps: (rows, groups) positive.
        zeros: (rows, groups) whole numbers in [0, 2**bits), float32.
        bits: Width of a code.
        group: Columns of a group; the last may have fewer.
    """

    steps: Tensor
    zeros: Tensor
    bits: int
    group: int

    def of(self, rows: slice) -> "Ranges":
        """Those of some rows."""
        return replace(self, steps=self.steps[rows], zeros=self.zeros[rows])

    def spread(self, columns: int) -> tuple[Tensor, Tensor]:
        """Steps and zeros of every weight, (rows, columns) each."""
        place = torch.arange(columns) // self.group
        return self.steps[:, place], self.zeros[:, place]

    def codes(self, weight: Tensor) -> Tensor:
        """The nearest code of each weight, (rows, columns) float32."""
        steps, zeros = self.spread(weight.shape[1])
        return (weight / steps + zeros).round().clamp(0, 2**self.bits - 1)

    def values(self, codes: Tensor) -> Tensor:
        """What codes stand for, (rows, columns)."""
        steps, zeros = self.spread(codes.shape[1])
        return (codes - zeros) * steps

    def outside(self, weight: Tensor) -> int:
        """Number of weights more than half a step beyond the ends of their grid."""
        steps, zeros = self.spread(weight.shape[1])
        wanted = (weight / steps + zeros).round()
        return int(((wanted < 0) | (wanted > 2**self.bits - 1)).sum())


def full_ranges(weight: Tensor, bits: int, *, group: int, symmetric: bool) -> Ranges:
    """Grids that reach the extremes of their groups (Jacob et al. 2018, arXiv 1712.05877).

    Args:
        weight: (rows, columns).
        bits: Width of a code, 2 to 8.
        group: Columns of a group.
        symmetric: The code ``2**(bits - 1)`` means zero everywhere, instead of one per group.
    """
    return _reaching(*_extremes(_parted(weight, group), symmetric), bits, group)


def clipped_ranges(
    weight: Tensor, bits: int, *, group: int, symmetric: bool, costs: Tensor | None = None
) -> Ranges:
    """Grids whose ends are drawn in as far as lowers the cost of rounding to nearest.

    Args:
        weight: (rows, columns).
        bits: Width of a code, 2 to 8.
        group: Columns of a group.
        symmetric: As in `full_ranges`.
        costs: What a squared error costs, broadcasts to (rows, columns); None means ones.
    """
    parts = _parted(weight, group)
    worth = torch.ones_like(weight) if costs is None else costs.expand(weight.shape)
    worth = _parted(worth.to(torch.float32), group)
    low, high = _extremes(parts, symmetric)
    best, least = _reaching(low, high, bits, group), torch.full(low.shape, torch.inf)
    narrowest = NARROWEST.get(bits, NARROWEST_OF_MORE)
    for share in torch.linspace(1.0, narrowest, CLIPS).tolist():
        first = _reaching(low * share, high * share, bits, group)
        for moved in (0,) if symmetric or bits > 4 else (-1, 0, 1):
            tried = replace(first, zeros=(first.zeros + moved).clamp(0, 2**bits - 1))
            steps, zeros = tried.steps[..., None], tried.zeros[..., None]
            codes = (parts / steps + zeros).round().clamp(0, 2**bits - 1)
            cost = (((codes - zeros) * steps - parts).square() * worth).sum(2)
            better, least = cost < least, torch.minimum(cost, least)
            best = replace(
                best,
                steps=torch.where(better, tried.steps, best.steps),
                zeros=torch.where(better, tried.zeros, best.zeros),
            )
    return best


def refitted(ranges: Ranges, weight: Tensor, *, codes: Tensor, second: Tensor) -> Ranges:
    """The same codes with the steps that lose least: ``min tr((W - V) H (W - V)^T)`` over steps.

    Each row is a small system of as many equations as it has groups. A step that would not stay
    positive keeps its value.

    Args:
        ranges: Grids with zeros.
        weight: (rows, columns).
        codes: (rows, columns).
        second: H, positive definite, (groups of rows, columns, columns): the rows are split evenly
            over them in order.
    """
    (rows, columns), parts = weight.shape, ranges.steps.shape[1]
    second = second.to(torch.float32)
    offsets = codes - ranges.spread(columns)[1]
    normal = torch.empty(rows, parts, parts)
    grouped = offsets.reshape(len(second), -1, columns)
    for part in range(parts):
        own = slice(part * ranges.group, min((part + 1) * ranges.group, columns))
        image = (grouped[:, :, own] @ second[:, own]).reshape(rows, columns)
        normal[:, part] = _parted(image * offsets, ranges.group).sum(2)
    image = (weight.reshape(grouped.shape) @ second).reshape(rows, columns)
    wanted = _parted(image * offsets, ranges.group).sum(2)  # (rows, groups)
    normal = (normal + normal.transpose(1, 2)) / 2
    diagonal = normal.diagonal(dim1=1, dim2=2)
    diagonal += 1e-6 * diagonal.mean(1, keepdim=True) + 1e-20
    steps = torch.linalg.solve(normal.double(), wanted.double()[..., None])[..., 0].float()
    sane = (steps > 0.3 * ranges.steps) & (steps < 3 * ranges.steps)
    return replace(ranges, steps=torch.where(sane, _halves(steps), ranges.steps))


def _parted(matrix: Tensor, group: int) -> Tensor:
    """(rows, groups, group), filled up with zeros."""
    rows, columns = matrix.shape
    return pad(matrix, (0, -columns % group)).reshape(rows, -1, group)


def _extremes(parts: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Lowest and highest of each group, (rows, groups); zero lies between them."""
    if symmetric:
        high = parts.abs().amax(2)
        return -high, high
    return parts.amin(2).clamp_max(0), parts.amax(2).clamp_min(0)


def _reaching(low: Tensor, high: Tensor, bits: int, group: int) -> Ranges:
    """Grids from `low` to `high`; equal sides have the zero of a symmetric grid."""
    top = 2**bits - 1
    steps = _halves((high - low) / top)
    if bool((low == -high).all()):
        steps, zeros = _halves(high / (top // 2)), torch.full_like(high, top // 2 + 1)
    else:
        zeros = (-low / steps).round().clamp(0, top)
    return Ranges(steps, zeros, bits, group)


def _halves(steps: Tensor) -> Tensor:
    """Positive steps, in half precision where that keeps enough: two bytes each when packed."""
    half = steps.clamp_max(HALF_LARGEST).to(torch.float16).to(torch.float32)
    fits = (steps >= SMALLEST_HALF) & (steps <= HALF_LARGEST)
    return torch.where(fits, half, torch.where(steps > 0, steps, 1.0))
