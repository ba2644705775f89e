"""Spend bits where they save most damage: equal slopes, and the limit nobody can beat."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POINTS = 241


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


def water_filling_bits(weight: Tensor, spectrum: tuple[Tensor, Tensor], damage: float) -> float:
    """Bits per weight below which no code reaches the damage: reverse water-filling.

    The weights' energy along each eigenvector of H is taken as the variance of an independent
    Gaussian source (Cover and Thomas, Elements of Information Theory, 10.3.3).

    Args:
        weight: (out, in).
        spectrum: Eigenvalues (in,) and eigenvectors (in, in) of H, from `torch.linalg.eigh`.
        damage: ``tr((W - V) H (W - V)^T)`` of the code to compare, > 0.

    Returns:
        Bits per weight, >= 0.
    """
    values, vectors = spectrum
    energy = (weight.to(vectors.dtype) @ vectors).square().mean(0).double()  # (in,)
    energy = energy * values.double().clamp_min(0)
    target = damage / weight.shape[0]
    low, high = 0.0, float(energy.max())
    for _ in range(100):
        level = (low + high) / 2
        if float(energy.clamp_max(level).sum()) > target:
            high = level
        else:
            low = level
    bits = 0.5 * torch.log2((energy / max(low, 1e-300)).clamp_min(1)).sum()
    return float(bits) / weight.shape[1]
