"""Inputs scaled so that those that reach far do not take the uint8 grid from all others.

What lies beyond a grid is clipped, and a grid that hugs what calibration saw clips what comes: of
N rows the next exceeds the extreme of an input with a chance of 1 / (N + 1). So inputs are scaled
as far, and as much room is left beyond them, as costs least on rows to come.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lilliput.tensor.activations import LEVELS, Range, uint8_grid

OUTLYING = 4.0
SMALLEST_CHANNEL = 1 / 64  # of the largest: smaller ones grow no more than that
SMALLEST_SHARE = 1e-4  # of the largest input: smaller ones are treated as if they were of this size
STRENGTHS = 8  # that are tried, evenly spaced from the most to none
ROOMS = (1.0, 1.25, 1.5, 2.0)  # how far beyond what was seen a grid may reach
TAIL = 6  # the chance of t times the extreme falls with this power of t
TAIL_POWER = 2 / ((TAIL - 1) * (TAIL - 2))  # mean square of what lies beyond, in extremes


def outlying(low: Tensor, high: Tensor, *, most: int) -> Tensor:
    """Places of the few inputs that reach `OUTLYING` times as far as half of all, rising.

    One of them takes the grid from all others: kept float (LLM.int8, arXiv 2208.07339), they cost
    little.

    Args:
        low: (columns,) smallest value of each input.
        high: (columns,) largest value.
        most: No more than so many, those that reach farthest.

    Returns:
        (count,) int64.
    """
    reach = torch.maximum(-low, high)
    farthest = reach.argsort(descending=True, stable=True)[:most]
    return farthest[reach[farthest] > OUTLYING * reach.median()].sort().values


def column_factors(low: Tensor, high: Tensor, *, strength: float, typical: Tensor) -> Tensor:
    """What to divide inputs by so that outliers do not take the grid from all others.

    SmoothQuant (arXiv 2211.10438) without the weights' part, so that all layers that read the same
    inputs divide them by the same. At full strength every input fills the grid; where the common
    zero lies is chosen for the least noise.

    Args:
        low: (columns,) smallest value of each input, at most 0.
        high: (columns,) largest value, at least 0.
        strength: In [0, 1]; 0 gives ones.
        typical: (columns,) root mean square of each input.

    Returns:
        (columns,) float32, positive, geometric mean 1.
    """
    size = torch.maximum(-low, high)
    least = SMALLEST_SHARE * float(size.max())
    if strength == 0 or not least > 0:
        return torch.ones_like(low)
    power = typical.clamp_min(least).square()
    best, found = math.inf, size
    for zero in range(5, LEVELS, 5):
        wide = torch.maximum(-low / zero, high / (LEVELS - zero)).clamp_min(least / LEVELS)
        noise = float((wide.square() / power).sum())
        if noise < best:
            best, found = noise, wide
    logs = found.to(torch.float64).log()
    return torch.exp(strength * (logs - logs.mean())).to(torch.float32)


def channel_factors(low: Tensor, high: Tensor, *, strength: float) -> Tensor:
    """What to multiply channels with so that small ones use more of a common grid.

    Cross-layer equalization (arXiv 1906.04721) by what calibration saw, since steps per channel
    make the ranges of weights equal anyway. No channel reaches farther than the largest one did.

    Args:
        low: (channels,) smallest value of each, at most 0.
        high: (channels,) largest value, at least 0.
        strength: In [0, 1]; 0 gives ones, at 1 every channel reaches as far as the largest.

    Returns:
        (channels,) float32, at least 1.
    """
    size = torch.maximum(-low, high)
    largest = size.max()
    if not largest > 0:
        return torch.ones_like(size)
    return (largest / size.clamp_min(SMALLEST_CHANNEL * largest)) ** strength


@dataclass(frozen=True)
class Seen:
    """What calibration saw of the inputs of a product.

    Attributes:
        low: (columns,) smallest value of each, at most 0.
        high: (columns,) largest value, at least 0.
        typical: (columns,) root mean square.
        worth: (columns,) what a squared error in each costs.
        count: Rows that were seen.
    """

    low: Tensor
    high: Tensor
    typical: Tensor
    worth: Tensor
    count: int

    def without(self, places: Tensor) -> "Seen":
        """The same with some inputs always zero."""
        low, high = (ends.index_fill(0, places, 0.0) for ends in (self.low, self.high))
        return replace(self, low=low, high=high)


class Smoothing(NamedTuple):
    """How inputs are scaled and rounded.

    Attributes:
        factors: (columns,) what they are divided by.
        ends: The grid's range of what they are then.
        cost: `error_to_come`.
    """

    factors: Tensor
    ends: Range
    cost: float


def smoothed(seen: Seen, *, most: float) -> Smoothing:
    """The factors and the grid's ends that cost least on rows to come.

    Args:
        seen: The inputs.
        most: The strength of `column_factors` that is not exceeded, in [0, 1].
    """
    found = Smoothing(torch.ones_like(seen.low), (0.0, 0.0), math.inf)
    for strength in torch.linspace(most, 0, STRENGTHS).tolist():
        factors = column_factors(seen.low, seen.high, strength=strength, typical=seen.typical)
        ends = float((seen.low / factors).min()), float((seen.high / factors).max())
        for room in ROOMS:
            roomy = room * ends[0], room * ends[1]
            cost = error_to_come(seen, factors, ends=roomy)
            if cost < found.cost:
                found = Smoothing(factors, roomy, cost)
    return found


def error_to_come(seen: Seen, factors: Tensor, *, ends: Range) -> float:
    """What rounding and clipping the next row costs.

    A value falls beyond the extreme that was seen with a chance of 1 / (count + 1), and beyond t
    times the extreme with that over ``t**TAIL``. The tail is heavy, since rows to come may be of
    another kind than those that were seen, and one row's inputs reach far together.

    Args:
        seen: The inputs.
        factors: (columns,) what they are divided by.
        ends: Of the grid.
    """
    step, _ = uint8_grid(ends)
    clipped = torch.zeros_like(seen.worth)
    for reach, end in ((-seen.low, -ends[0]), (seen.high, ends[1])):
        times = (end * factors / reach).clamp_min(1.0)  # as far as what was seen
        clipped += torch.where(reach > 0, reach.square() * TAIL_POWER / times ** (TAIL - 2), 0.0)
    lost = clipped / (seen.count + 1) + (step * factors).square() / 12
    return float((seen.worth * lost).sum())
