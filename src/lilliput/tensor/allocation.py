"""Spend bits where they save most damage: equal slopes, and the limit nobody can beat."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POINTS = 241
MOST_ROWS = 1024
Spectrum = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Curve:
    """Damage and bytes of one site as functions of its step.

    Attributes:
        log_steps: (points,) increasing natural logarithms of the step.
        damage: (points,) in the currency, non-decreasing.
        bytes: (points,) coded size, non-increasing.
    """

    log_steps: np.ndarray
    damage: np.ndarray
    bytes: np.ndarray


def curve(steps: np.ndarray, *, damage: np.ndarray, sizes: np.ndarray) -> Curve:
    """A dense curve through measured points: log-linear in damage, linear in bytes.

    Args:
        steps: (k,) positive, any order, k >= 2.
        damage: (k,) >= 0.
        sizes: (k,) bytes.

    Returns:
        A monotone `Curve` with `POINTS` points between the smallest and the largest step.
    """
    order = np.argsort(steps)
    known = np.log(steps[order])
    log_steps = np.linspace(known[0], known[-1], POINTS)
    log_damage = np.interp(log_steps, known, np.log(np.maximum(damage[order], 1e-30)))
    return Curve(
        log_steps,
        np.maximum.accumulate(np.exp(log_damage)),
        np.minimum.accumulate(np.interp(log_steps, known, sizes[order])),
    )


def equal_slope(curves: list[Curve], budget: float) -> list[int]:
    """Points with the least total damage whose bytes fit: one slope for all (Shoham 1988).

    Args:
        curves: One per site.
        budget: Total bytes allowed.

    Returns:
        The index chosen on each curve. Where even the coarsest points do not fit, those.
    """

    def choose(slope: float) -> list[int]:
        return [int(np.argmin(c.damage + slope * c.bytes)) for c in curves]

    low, high = 1e-30, 1e12
    for _ in range(160):
        middle = float(np.sqrt(low * high))
        total = sum(c.bytes[i] for c, i in zip(curves, choose(middle), strict=True))
        low, high = (middle, high) if total > budget else (low, middle)
    return choose(high)


def water_filling_bits(
    weight: Tensor,
    damage: float,
    *,
    columns: Spectrum,
    rows: Spectrum | Tensor,
) -> float:
    """Bits per weight below which no code reaches the damage: reverse water-filling.

    The weights' energy along each pair of eigenvectors of G and H is taken as the variance of an
    independent Gaussian source (Cover and Thomas, Elements of Information Theory, 10.3.3); it is
    smoothed to the product of what lies along the one and what lies along the other.

    Args:
        weight: (out, in).
        damage: ``tr(G (W - V) H (W - V)^T)`` of the code to compare, > 0.
        columns: Eigenvalues (in,) and eigenvectors (in, in) of H, from `torch.linalg.eigh`.
        rows: The same of G; or its diagonal, (out,), where it is diagonal.

    Returns:
        Bits per weight, >= 0.
    """
    values, vectors = columns
    turned = weight.to(vectors.dtype) @ vectors
    if isinstance(rows, Tensor):
        worth = rows
    else:
        worth, basis = rows
        turned = basis.t().to(vectors.dtype) @ turned
    energy = turned.double().square() * values.double().clamp_min(0)
    energy *= worth.double().clamp_min(0)[:, None]
    total = float(energy.sum())
    along_rows, shares = _fewer(energy.sum(1)), energy.sum(0) / max(total, 1e-300)
    smooth = along_rows[:, None] * shares
    target = damage * len(along_rows) / weight.shape[0]
    low, high = 0.0, float(smooth.max())
    for _ in range(60):
        level = (low + high) / 2
        if float(smooth.clamp_max(level).sum()) > target:
            high = level
        else:
            low = level
    return float(0.5 * torch.log2((smooth / max(low, 1e-300)).clamp_min(1)).mean())


def _fewer(values: Tensor) -> Tensor:
    """Means of equally many neighbours in order of size, at most `MOST_ROWS`."""
    if len(values) <= MOST_ROWS:
        return values
    parts = torch.tensor_split(values.sort().values, MOST_ROWS)
    return torch.stack([part.mean() for part in parts])
