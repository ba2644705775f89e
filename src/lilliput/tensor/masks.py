"""Which weights stay: patterns, scores, and the best values of those that do.

A mask is a bool tensor of a matrix's shape, True where the weight stays.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

REFIT_ROUNDS = 60
REFIT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Pattern:
    """Groups of weights that stay or go together, or share a number of places.

    Attributes:
        kept: Of `group` neighbours in a row this many stay (N:M); 0 where that is free.
        group: M of N:M; 1 where that is free.
        block: (rows, columns) of a block that stays or goes as a whole; (1, 1) for single weights.
    """

    kept: int = 0
    group: int = 1
    block: tuple[int, int] = (1, 1)


PATTERNS = {
    "any": Pattern(),
    "2:4": Pattern(kept=2, group=4),
    "4:8": Pattern(kept=4, group=8),
    "1x4": Pattern(block=(1, 4)),
    "4x1": Pattern(block=(4, 1)),
}


def keep(scores: Tensor, amount: float, *, pattern: Pattern, by_row: bool = False) -> Tensor:
    """The mask that removes the lowest scores.

    Ties are broken by place, so the number removed is exact.

    Args:
        scores: (rows, columns), any finite numbers; higher stays.
        amount: Share to remove, in [0, 1]; N:M patterns have their own and ignore it.
        pattern: What stays or goes together. The matrix must divide into its groups or blocks.
        by_row: Removes the same number from every row, instead of from the whole matrix.

    Returns:
        (rows, columns) bool.
    """
    if pattern.kept:
        grouped = scores.reshape(len(scores), -1, pattern.group)
        return _highest(grouped, pattern.kept).reshape(scores.shape)
    high, wide = pattern.block
    rows, columns = scores.shape
    summed = scores.reshape(rows // high, high, columns // wide, wide).sum((1, 3))
    if by_row:
        stay = summed.shape[1] - round(amount * summed.shape[1])
        chosen = _highest(summed, stay)
    else:
        stay = summed.numel() - round(amount * summed.numel())
        chosen = _highest(summed.reshape(1, -1), stay).reshape(summed.shape)
    return chosen.repeat_interleave(high, 0).repeat_interleave(wide, 1)


def fits(shape: tuple[int, int], pattern: Pattern) -> bool:
    """Whether a matrix divides into the pattern's groups or blocks."""
    high, wide = pattern.block
    return shape[0] % high == 0 and shape[1] % math.lcm(wide, pattern.group) == 0


def _highest(scores: Tensor, count: int) -> Tensor:
    """(..., n) bool with `count` True along the last axis; of equals the first."""
    order = torch.sort(scores, dim=-1, descending=True, stable=True).indices[..., :count]
    return torch.zeros(scores.shape, dtype=torch.bool).scatter_(-1, order, True)


def refit(weight: Tensor, mask: Tensor, *, second: Tensor) -> Tensor:
    """The kept weights with the least damage: ``min tr((W - V) H (W - V)^T)``, V = 0 off the mask.

    Conjugate gradients on all rows together, preconditioned by the diagonal (Benbaki et al. 2023,
    arXiv 2302.14623, solve the same systems).

    Args:
        weight: (rows, columns).
        mask: (rows, columns) bool.
        second: H, (columns, columns), positive definite.

    Returns:
        (rows, columns) float32.
    """
    kept = mask.to(torch.float32)
    second = second.to(torch.float32)
    scale = 1 / second.diagonal().clamp_min(1e-20)
    value = weight * kept
    residual = ((weight - value) @ second) * kept
    start = float((residual.square() * scale).sum())
    towards = residual * scale
    direction, size = towards, (residual * towards).sum(1, keepdim=True)
    for _ in range(REFIT_ROUNDS):
        if float(size.sum()) <= REFIT_TOLERANCE**2 * start:
            break
        image = (direction @ second) * kept
        step = size / (direction * image).sum(1, keepdim=True).clamp_min(1e-30)
        value = value + step * direction
        residual = residual - step * image
        towards = residual * scale
        before, size = size, (residual * towards).sum(1, keepdim=True)
        direction = towards + size / before.clamp_min(1e-30) * direction
    return value
