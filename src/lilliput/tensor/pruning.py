"""What removing weights costs, and removing them so that the rest absorbs the error.

All of it is the one metric ``tr(G (W - V) H (W - V)^T)`` under the constraint that V is zero off a
mask; the methods differ in how well they solve it.
"""

import torch
from torch import Tensor

from lilliput.tensor.feedback import feed_back
from lilliput.tensor.masks import Pattern, keep

BLOCK = 128  # columns whose mask is chosen together, as in SparseGPT

FREE = Pattern()
SURGEON_BYTES = 256e6  # of inverses held at once: every row has its own


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


def feedback_prune(weight: Tensor, factor: Tensor, *, amount: float, pattern: Pattern) -> Tensor:
    """SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774).

    Columns are visited in order; in each block of columns the weights with the lowest
    ``w^2 / U_jj^2`` are removed, and later columns absorb the error.

    Args:
        weight: (rows, columns).
        factor: Upper Cholesky factor of the inverse of the second moments, (columns, columns).
        amount: Share to remove, in [0, 1].
        pattern: What stays or goes together.

    Returns:
        (rows, columns) float32, zero where removed.
    """
    mask = torch.empty(weight.shape, dtype=torch.bool)

    def begin(rest: Tensor, block: slice) -> None:
        scores = (rest / factor.diagonal()[block]).square()
        mask[:, block] = keep(scores, amount, pattern=pattern)

    return feed_back(
        weight,
        factor,
        meet=lambda column, place: column * mask[:, place],
        block=BLOCK,
        begin=begin,
    )


def surgeon_prune(
    weight: Tensor, inverse: Tensor, *, amount: float, at_once: int, pattern: Pattern = FREE
) -> Tensor:
    """Optimal Brain Surgeon on every row (Hassibi and Stork 1993; arXiv 2208.11580).

    The weight with the lowest ``w^2 / [inv H]_jj`` goes, the others are updated by
    ``-w inv(H)_:j / [inv H]_jj``, and j leaves the inverse. `at_once` weights of a row go together
    (the exact joint update), which is that much quicker.

    Args:
        weight: (rows, columns).
        inverse: Inverse of the damped second moments, (columns, columns).
        amount: Share of each row to remove, in [0, 1].
        at_once: Weights of a row per round, >= 1.
        pattern: N:M, which has its own amount, or single weights.

    Returns:
        (rows, columns) float32, zero where removed.
    """
    rows, columns = weight.shape
    value, count = torch.empty(rows, columns), round(amount * columns)
    if pattern.kept:
        count = columns // pattern.group * (pattern.group - pattern.kept)
    size = max(1, int(SURGEON_BYTES // (4 * columns * columns)))
    for start in range(0, rows, size):
        some = slice(start, start + size)
        value[some] = _surgeon_rows(
            weight[some].to(torch.float32), inverse, count, at_once, pattern=pattern
        )
    return value


def _surgeon_rows(
    weight: Tensor, inverse: Tensor, count: int, at_once: int, *, pattern: Pattern
) -> Tensor:
    value, mask = weight.clone(), torch.ones(weight.shape, dtype=torch.bool)
    own = inverse.to(torch.float32).expand(len(weight), -1, -1).clone()
    left = count
    while left > 0:
        now = min(at_once, left)
        if pattern.kept:  # one of each group at most: so many groups still have one to give
            now = min(now, -(-left // (pattern.group - pattern.kept)))
        diagonal = own.diagonal(dim1=1, dim2=2).clamp_min(1e-20)
        saliency = torch.where(mask, value.square() / diagonal, torch.inf)
        gone = _cheapest(saliency, mask, now, pattern)  # (rows, now)
        wide = gone[:, :, None].expand(-1, -1, own.shape[2])
        lines = own.gather(1, wide)  # (rows, now, columns)
        corner = lines.gather(2, gone[:, None, :].expand(-1, now, -1))
        solved = torch.linalg.solve(corner, lines)  # inv(corner) times lines
        value -= (value.gather(1, gone)[:, None, :] @ solved)[:, 0]
        own -= lines.transpose(1, 2) @ solved
        mask.scatter_(1, gone, False)
        value *= mask
        left -= now
    return value


def _cheapest(saliency: Tensor, mask: Tensor, count: int, pattern: Pattern) -> Tensor:
    """(rows, count) columns of the lowest; of an N:M group at most one, and none of a full one."""
    if not pattern.kept:
        return saliency.topk(count, dim=1, largest=False).indices
    shape = (len(saliency), -1, pattern.group)
    least, place = saliency.reshape(shape).min(2)  # (rows, groups)
    done = mask.reshape(shape).sum(2) <= pattern.kept
    groups = torch.where(done, torch.inf, least).topk(count, dim=1, largest=False).indices
    return groups * pattern.group + place.gather(1, groups)
