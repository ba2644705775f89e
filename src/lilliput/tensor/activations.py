"""Ranges of activations and the uint8 grids on them.

A range always holds zero, which is a point of its grid: padding and what a rectifier cut off are
exact. What lies beyond it is clipped.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

RangeMethod = Literal["minmax", "percentile", "mse", "entropy"]
Range = tuple[float, float]
LEVELS = 255  # steps of a uint8 grid
BINS = 4096
CANDIDATES = 64  # ends that are tried, from `SMALLEST_RANGE` of the extreme to all of it
SMALLEST_RANGE = 0.01
SMALLEST = 1e-30


@dataclass(frozen=True)
class Histogram:
    """How often values fell where.

    Attributes:
        counts: (BINS,) float64, over equal bins from ``-reach`` to ``reach``; exact zeros left out.
        reach: A power of two.
        zeros: Number of exact zeros.
        low: The smallest value, at most 0.
        high: The largest value, at least 0.
    """

    counts: Tensor
    reach: float
    zeros: float
    low: float
    high: float

    @property
    def nonzero(self) -> float:
        """Share of the values that are not exactly zero."""
        some = float(self.counts.sum())
        return some / max(1.0, some + self.zeros)

    @property
    def centres(self) -> np.ndarray:
        """(BINS,) middles of the bins."""
        width = 2 * self.reach / BINS
        return (np.arange(BINS) + 0.5) * width - self.reach


def empty_histogram() -> Histogram:
    """Nothing counted yet."""
    return Histogram(torch.zeros(BINS, dtype=torch.float64), 2.0**-20, 0.0, 0.0, 0.0)


def with_values(seen: Histogram, values: Tensor) -> Histogram:
    """The histogram with more values counted; exact, whatever came first.

    Args:
        seen: What was counted before.
        values: Finite numbers of any shape.
    """
    if not values.numel():
        return seen
    flat = values.reshape(-1).to("cpu", torch.float32)
    low, high = float(flat.min()), float(flat.max())
    largest = max(-low, high)
    wanted = 2.0 ** math.ceil(math.log2(largest)) if largest > 0 else seen.reach
    counts, reach = seen.counts, seen.reach
    while reach < wanted:
        counts, reach = _halved(counts), 2 * reach
    nonzero = flat[flat != 0]
    found = torch.histc(nonzero, BINS, -reach, reach).to(torch.float64)
    zeros = seen.zeros + flat.numel() - nonzero.numel()
    return Histogram(counts + found, reach, zeros, min(low, seen.low), max(high, seen.high))


def merged(first: Histogram, second: Histogram) -> Histogram:
    """Both together."""
    small, large = sorted((first, second), key=lambda one: one.reach)
    counts, reach = small.counts, small.reach
    while reach < large.reach:
        counts, reach = _halved(counts), 2 * reach
    return Histogram(
        counts + large.counts,
        reach,
        small.zeros + large.zeros,
        min(small.low, large.low),
        max(small.high, large.high),
    )


def _halved(counts: Tensor) -> Tensor:
    """The same counts over twice the reach."""
    quarter = BINS // 4
    whole = torch.zeros_like(counts)
    whole[quarter:-quarter] = counts.reshape(-1, 2).sum(1)
    return whole


def chosen_range(seen: Histogram, method: RangeMethod, *, percentile: float = 99.99) -> Range:
    """What of the values a uint8 grid shall cover.

    Args:
        seen: The values.
        method: ``minmax``: all of them. ``percentile``: so many of a hundred, the rest cut off at
            both ends alike. ``mse``: the range with the least mean squared error, rounding and
            clipping together. ``entropy``: the one whose rounded distribution tells most about the
            original's (Kullback-Leibler; Migacz 2017).
        percentile: In (50, 100].

    Returns:
        (low, high), low <= 0 <= high.
    """
    if method == "percentile":
        return _percentile(seen, percentile)
    if method == "minmax" or not float(seen.counts.sum()):
        return seen.low, seen.high
    shares = np.geomspace(SMALLEST_RANGE, 1, CANDIDATES)[::-1]
    farthest = max(-seen.low, seen.high)

    def cut(share: float) -> Range:
        return max(seen.low, -share * farthest), min(seen.high, share * farthest)

    if method == "entropy":
        return cut(float(min(shares, key=lambda share: information_lost(seen, cut(share)))))
    low, high = cut(float(min(shares, key=lambda share: squared_error(seen, cut(share)))))
    low *= float(min(shares, key=lambda share: squared_error(seen, (share * low, high))))
    high *= float(min(shares, key=lambda share: squared_error(seen, (low, share * high))))
    return low, high


def _percentile(seen: Histogram, percentile: float) -> Range:
    total = float(seen.counts.sum()) + seen.zeros
    if not total:
        return seen.low, seen.high
    cut = (1 - percentile / 100) * total / 2
    counts = seen.counts.numpy().copy()
    counts[BINS // 2] += seen.zeros
    below = np.cumsum(counts)
    edges = np.linspace(-seen.reach, seen.reach, BINS + 1)
    low = edges[int(np.searchsorted(below, cut, side="right"))]
    high = edges[int(np.searchsorted(below, total - cut, side="left")) + 1]
    return min(0.0, max(float(low), seen.low)), max(0.0, min(float(high), seen.high))


def squared_error(seen: Histogram, chosen: Range) -> float:
    """Mean squared error of rounding onto the grid of a range and of clipping to it; zeros cost
    nothing."""
    low, high = chosen
    total = float(seen.counts.sum()) + seen.zeros
    if not total:
        return 0.0
    step, _ = uint8_grid(chosen)
    centres, counts = seen.centres, seen.counts.numpy()
    beyond = np.maximum(low - centres, 0) + np.maximum(centres - high, 0)
    cost = np.where(beyond > 0, np.square(beyond), step * step / 12)
    return float((cost * counts).sum() / total)


def information_lost(seen: Histogram, chosen: Range) -> float:
    """KL(values, clipped into the range ‖ the same spread over the grid's cells), in nats."""
    low, high = chosen
    step, _ = uint8_grid(chosen)
    centres, counts = seen.centres, seen.counts.numpy()
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return math.inf
    kept = counts[inside].copy()
    cells = np.rint(centres[inside] / step).astype(np.int64)
    cells -= cells.min()
    sums = np.bincount(cells, kept)
    used = np.maximum(np.bincount(cells, kept > 0), 1)
    spread = np.where(kept > 0, (sums / used)[cells], 0)
    kept[0] += counts[centres < low].sum()
    kept[-1] += counts[centres > high].sum()
    total, there = kept.sum(), spread.sum()
    if not there:
        return math.inf
    seen_share = kept / total
    told = np.maximum(spread / there, 1e-9)
    some = seen_share > 0
    return float((seen_share[some] * np.log(seen_share[some] / told[some])).sum())


def uint8_grid(chosen: Range) -> tuple[float, int]:
    """Step and zero point of the uint8 grid that covers a range; one of a point gets step 1.

    Args:
        chosen: (low, high), low <= 0 <= high.

    Returns:
        The step, a float32 number, and the code of zero, 0 to 255.
    """
    low, high = min(chosen[0], 0.0), max(chosen[1], 0.0)
    step = float(np.float32((high - low) / LEVELS))
    if not step > SMALLEST:
        return 1.0, 0
    return step, int(np.clip(np.rint(-low / step), 0, LEVELS))
