"""Uniform grids: plain rounding, and rounding that lets later columns absorb the error."""

import torch
from torch import Tensor

BLOCK = 128


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


def feedback_codes(
    weight: Tensor,
    factor: Tensor,
    row_steps: Tensor,
    *,
    column_steps: Tensor | None = None,
    dead_zone: float = 0.0,
) -> Tensor:
    """Round column after column; columns still to come absorb the error (arXiv 2210.17323).

    The grid is unbounded: codes are entropy-coded, so a large one is rare and merely costs bits
    (arXiv 2505.18758 shows why that beats a clipped grid at equal size).

    Args:
        weight: (out, in).
        factor: Upper Cholesky factor of the inverse of the second moments, (in, in), or
            (groups, in, in) with the rows split evenly over the groups in order.
        row_steps: (out,) positive.
        column_steps: (in,) positive factors on the step, or None.
        dead_zone: In [0, 0.5): magnitudes are rounded by adding ``0.5 - dead_zone`` and taking the
            floor, which trades damage for bits (entropy-constrained quantization, Sullivan 1996).

    Returns:
        (out, in) int32 codes.
    """
    groups = factor.shape[0] if factor.dim() == 3 else 1
    out, columns = weight.shape
    factors = factor.reshape(groups, columns, columns)
    # (groups, in, out / groups): a column of the weight is contiguous, a group is a batch.
    # A copy even where the turned view is contiguous already (one row per group).
    rest = weight.reshape(groups, out // groups, columns).transpose(1, 2)
    rest = rest.clone(memory_format=torch.contiguous_format)
    steps = row_steps.reshape(groups, 1, out // groups)
    codes = torch.empty(rest.shape, dtype=torch.int32)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        block_steps = (
            steps if column_steps is None else steps * column_steps[None, start:stop, None]
        )
        errors = _feedback_block(
            rest[:, start:stop],
            factors[:, start:stop, start:stop],
            block_steps,
            codes[:, start:stop],
            dead_zone,
        )
        if stop < columns:
            rest[:, stop:] -= factors[:, start:stop, stop:].transpose(1, 2) @ errors
    return codes.transpose(1, 2).reshape(out, columns)


def _feedback_block(
    rest: Tensor, factors: Tensor, steps: Tensor, codes: Tensor, dead_zone: float
) -> Tensor:
    """Round one block of columns in place; the scaled errors, (groups, block, rows)."""
    width = rest.shape[1]
    errors = torch.empty_like(rest)
    steps = steps.expand(-1, width, -1)
    for i in range(width):
        column, step = rest[:, i], steps[:, i]  # (groups, rows)
        scaled = column / step
        if dead_zone:
            code = torch.sign(scaled) * torch.floor(scaled.abs() + (0.5 - dead_zone))
        else:
            code = torch.round(scaled)
        codes[:, i] = code.to(torch.int32)
        error = (column - code * step) / factors[:, i, i, None]
        errors[:, i] = error
        if i + 1 < width:
            rest[:, i + 1 :] -= factors[:, i, i + 1 :, None] * error[:, None]
    return errors
