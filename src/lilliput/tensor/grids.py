"""Uniform grids: plain rounding to the nearest point."""

from collections.abc import Sequence

import torch
from torch import Tensor

SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
FEW_BITS_SHARES = (*SHARES, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1)


def round_to_grid(weight: Tensor, steps: Tensor) -> Tensor:
    """Nearest grid point of each weight.

    Args:
        weight: (out, in).
        steps: Positive steps that broadcast to (out, in).

    Returns:
        (out, in) int32 codes.
    """
    return torch.round(weight / steps).to(torch.int32)


def absolute_maximum_steps(weight: Tensor, bits: int) -> Tensor:
    """Step per row with which the largest weight of the row gets the largest symmetric code.

    Args:
        weight: (out, in).
        bits: Width of the codes, 2 to 16; codes run from ``-(2**(bits-1) - 1)`` to its negative.

    Returns:
        (out,) float32; rows of zeros get step 1.
    """
    largest = weight.abs().amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def clipped_steps(
    weight: Tensor, bits: int, *, power: Tensor, shares: Sequence[float] = SHARES
) -> Tensor:
    """Step per row with the least squared error of rounding and of clipping together.

    Args:
        weight: (out, in).
        bits: As in `absolute_maximum_steps`.
        power: What a squared error costs, broadcasts to (out, in).
        shares: Of the absolute maximum's step, which are tried.

    Returns:
        (out,) float32, between half of the absolute maximum's step and all of it, or as `shares`
        say.
    """
    largest = 2 ** (bits - 1) - 1
    whole = absolute_maximum_steps(weight, bits)
    best, found = torch.full_like(whole, torch.inf), whole
    for share in shares:
        steps = whole * share
        codes = torch.round(weight / steps[:, None]).clamp(-largest, largest)
        lost = ((weight - codes * steps[:, None]).square() * power).sum(1)
        better = lost < best
        best, found = torch.where(better, lost, best), torch.where(better, steps, found)
    return found
