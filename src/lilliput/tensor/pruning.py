"""What removing weights costs, and removing them so that the rest absorbs the error.

All of it is the one metric ``tr(G (W - V) H (W - V)^T)`` under the constraint that V is zero off a
mask; the methods differ in how well they solve it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lilliput.tensor.masks import Pattern, keep

BLOCK = 128  # columns whose mask is chosen together, as in SparseGPT

Scores = Callable[[Tensor, Tensor], Tensor]


def magnitude(weight: Tensor) -> Tensor:
    """Absolute values, (rows, columns)."""
    return weight.abs()


def activation_magnitude(weight: Tensor, second: Tensor) -> Tensor:
    """``|w| sqrt(H_jj)``: Wanda (Sun et al. 2023, arXiv 2306.11695).

    Args:
        weight: (rows, columns).
        second: H, (columns, columns).
    """
    return weight.abs() * second.diagonal().clamp_min(0).sqrt()


def diagonal_saliency(weight: Tensor, second: Tensor, *, worth: Tensor) -> Tensor:
    """``G_ii H_jj w^2``: Optimal Brain Damage (LeCun, Denker and Solla 1990).

    Args:
        weight: (rows, columns).
        second: H, (columns, columns).
        worth: Diagonal of G, (rows,).
    """
    return weight.square() * second.diagonal().clamp_min(0) * worth[:, None]


def feedback_prune(
    weight: Tensor, factor: Tensor, *, amount: float, pattern: Pattern, by_row: bool = False
) -> tuple[Tensor, Tensor]:
    """SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774).

    Columns are visited in order; in each block of columns the weights with the lowest
    ``w^2 / U_jj^2`` are removed, and later columns absorb the error.

    Args:
        weight: (rows, columns).
        factor: Upper Cholesky factor of the inverse of the second moments, (columns, columns).
        amount: Share to remove, in [0, 1].
        pattern: What stays or goes together.
        by_row: Removes the same number from every row.

    Returns:
        The value, (rows, columns) float32, zero off the mask; and the mask.
    """
    rest = weight.to(torch.float32).clone()
    mask = torch.ones(weight.shape, dtype=torch.bool)
    columns = weight.shape[1]
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        within = factor[start:stop, start:stop]
        scores = (rest[:, start:stop] / within.diagonal()).square()
        mask[:, start:stop] = keep(scores, amount, pattern=pattern, by_row=by_row)
        errors = absorb_within(rest[:, start:stop], within, mask=mask[:, start:stop])
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return rest * mask, mask


def absorb_within(rest: Tensor, factor: Tensor, *, mask: Tensor) -> Tensor:
    """Zeroes a block's masked weights in place, column by column; what later blocks absorb."""
    errors = torch.zeros_like(rest)
    for column in range(rest.shape[1]):
        lost = torch.where(mask[:, column], 0.0, rest[:, column])
        errors[:, column] = lost / factor[column, column]
        rest[:, column:] -= errors[:, column, None] * factor[column, column:]
    return errors


def surgeon_prune(
    weight: Tensor, inverse: Tensor, *, amount: float, at_once: int
) -> tuple[Tensor, Tensor]:
    """Optimal Brain Surgeon on every row (Hassibi and Stork 1993; arXiv 2208.11580).

    The weight with the lowest ``w^2 / [inv H]_jj`` goes, the others are updated by
    ``-w inv(H)_:j / [inv H]_jj``, and j leaves the inverse. `at_once` weights of a row go together
    (the exact joint update), which is that much quicker.

    Args:
        weight: (rows, columns).
        inverse: Inverse of the damped second moments, (columns, columns).
        amount: Share of each row to remove, in [0, 1].
        at_once: Weights of a row per round, >= 1.

    Returns:
        The value, (rows, columns) float32, zero off the mask; and the mask.
    """
    rows, columns = weight.shape
    value, mask = torch.empty(rows, columns), torch.empty(rows, columns, dtype=torch.bool)
    size = max(1, int(SURGEON_BYTES // (4 * columns * columns)))
    for start in range(0, rows, size):
        some = slice(start, start + size)
        value[some], mask[some] = _surgeon_rows(
            weight[some].to(torch.float32), inverse, round(amount * columns), at_once
        )
    return value, mask


SURGEON_BYTES = 256e6  # of inverses held at once: every row has its own


def _surgeon_rows(
    weight: Tensor, inverse: Tensor, count: int, at_once: int
) -> tuple[Tensor, Tensor]:
    value, mask = weight.clone(), torch.ones(weight.shape, dtype=torch.bool)
    own = inverse.to(torch.float32).expand(len(weight), -1, -1).clone()
    left = count
    while left > 0:
        now = min(at_once, left)
        diagonal = own.diagonal(dim1=1, dim2=2).clamp_min(1e-20)
        saliency = torch.where(mask, value.square() / diagonal, torch.inf)
        gone = saliency.topk(now, dim=1, largest=False).indices  # (rows, now)
        wide = gone[:, :, None].expand(-1, -1, own.shape[2])
        lines = own.gather(1, wide)  # (rows, now, columns)
        corner = lines.gather(2, gone[:, None, :].expand(-1, now, -1))
        solved = torch.linalg.solve(corner, lines)  # inv(corner) times lines
        value -= (value.gather(1, gone)[:, None, :] @ solved)[:, 0]
        own -= lines.transpose(1, 2) @ solved
        mask.scatter_(1, gone, False)
        value *= mask
        left -= now
    return value, mask
