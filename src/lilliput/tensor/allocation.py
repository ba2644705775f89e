"""Spend bits where they save most damage: equal slopes, and the limit nobody can beat."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POINTS = 241
MOST_ROWS = 1024
VARIANCE_ROUNDS = 6  # the fit's alternations; rows and columns are nearly independent
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


def spectrum(second: Tensor) -> Spectrum:
    """Eigenvalues and eigenvectors of a symmetric (n, n) matrix, in its own type.

    In 64 bits: in 32 the decomposition of a singular matrix may not converge.
    """
    values, vectors = torch.linalg.eigh(second.double())
    return values.to(second.dtype), vectors.to(second.dtype)


def water_filling_bits(
    weight: Tensor,
    damage: float,
    *,
    columns: Spectrum,
    rows: Spectrum | Tensor,
) -> float:
    """Bits per weight below which no code reaches the damage: reverse water-filling.

    The weight along each pair of eigenvectors of G and H is an independent Gaussian source (Cover
    and Thomas, Elements of Information Theory, 10.3.3). Its variance is the product of one number
    per row and one per column, fitted by maximum likelihood: a direction of huge energy says
    nothing about the others.

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
    along_rows, along_columns = _variances(turned.double().square())
    along_rows = _fewer(along_rows * worth.double().clamp_min(0))
    smooth = along_rows[:, None] * (along_columns * values.double().clamp_min(0))
    target = damage * len(along_rows) / weight.shape[0]
    low, high = 0.0, float(smooth.max())
    for _ in range(60):
        level = (low + high) / 2
        if float(smooth.clamp_max(level).sum()) > target:
            high = level
        else:
            low = level
    return float(0.5 * torch.log2((smooth / max(low, 1e-300)).clamp_min(1)).mean())


def _variances(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Rows' and columns' factors under which normal samples with these squares are likeliest."""
    least = 1e-30 * float(squares.mean()) or 1e-300
    rows = torch.ones(len(squares), dtype=squares.dtype)
    columns = squares.mean(0).clamp_min(least)
    for _ in range(VARIANCE_ROUNDS):
        rows = (squares / columns).mean(1).clamp_min(1e-30)
        columns = (squares / rows[:, None]).mean(0).clamp_min(least)
    return rows, columns


def _fewer(values: Tensor) -> Tensor:
    """Means of equally many neighbours in order of size, at most `MOST_ROWS`."""
    if len(values) <= MOST_ROWS:
        return values
    parts = torch.tensor_split(values.sort().values, MOST_ROWS)
    return torch.stack([part.mean() for part in parts])
