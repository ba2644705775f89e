"""Uniform grids: plain rounding to the nearest point."""

import torch
from torch import Tensor


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
