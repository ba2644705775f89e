"""The best product of two factors of every rank, and how ranks are shared out over matrices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lilliput.tensor.allocation import Curve, equal_slope

SMALLEST = 1e-12  # of the largest singular value: directions below that are rounding


@dataclass(frozen=True)
class Products:
    """A matrix as sums of more and more products: the first r of them are the best of rank r.

    Attributes:
        left: (rows, most).
        right: (most, columns).
        tails: (most + 1,) float64, damage that is left with 0, 1, ... products.
    """

    left: Tensor
    right: Tensor
    tails: Tensor

    def at(self, rank: int) -> tuple[Tensor, Tensor]:
        """Contiguous (rank, columns) and (rows, rank): the order in which they meet the input."""
        return self.right[:rank].contiguous(), self.left[:, :rank].contiguous()


def best_products(
    weight: Tensor, *, factor: Tensor | None = None, output: Tensor | None = None
) -> Products:
    """Singular value decomposition under ``tr(G E H E^T)`` (Eckart and Young 1936).

    With G = R R^T and H = L L^T it is that of ``R^T W L``, taken from the eigenvectors of its
    smaller Gram matrix, and turned back (SVD-LLM, arXiv 2403.07378, does so for G = 1).

    Args:
        weight: W, (rows, columns).
        factor: U, upper triangular, of ``inv(H) = U^T U``, (columns, columns); None for H = 1.
        output: G, (rows, rows) positive definite, or its diagonal, (rows,); None for G = 1.

    Returns:
        min(rows, columns) products, float32; each pair of factors has equal norms.
    """
    wide = weight.double()
    if factor is not None:
        wide = torch.linalg.solve_triangular(factor.double(), wide, upper=True, left=False)
    side = torch.ones(len(wide)).double() if output is None else output.double()
    if wide.shape[0] >= wide.shape[1]:
        weighted = side[:, None] * wide if side.dim() == 1 else side @ wide
        sizes, vectors = _descending(wide.t() @ weighted)
        left, right = wide @ vectors, vectors.t()
        scale = 1 / sizes.sqrt()
    else:
        root = side.sqrt() if side.dim() == 1 else torch.linalg.cholesky(side)
        turned = root[:, None] * wide if side.dim() == 1 else root.t() @ wide  # R^T W L
        sizes, vectors = _descending(turned @ turned.t())
        scale = sizes.sqrt()
        right = vectors.t() @ turned
        left = vectors / root[:, None] if side.dim() == 1 else _divided(root, vectors)
    right = right if factor is None else right @ factor.double()
    energy = sizes.square().flip(0).cumsum(0).flip(0)
    tails = torch.cat([energy, torch.zeros(1).double()])
    return Products((left * scale).float(), (right / scale[:, None]).float(), tails)


def _descending(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values, the largest first, and eigenvectors of a Gram matrix."""
    values, vectors = torch.linalg.eigh((gram + gram.t()) / 2)
    sizes = values.clamp_min(0).sqrt().flip(0)
    return sizes.clamp_min(SMALLEST * float(sizes[0]) or SMALLEST), vectors.flip(1)


def _divided(root: Tensor, vectors: Tensor) -> Tensor:
    """``R^-T V`` for a lower triangular R."""
    found: Tensor = torch.linalg.solve_triangular(root.t(), vectors, upper=True)
    return found


def ranks_by_damage(
    tails: Sequence[Tensor], *, sides: Sequence[tuple[int, int]], budget: float
) -> list[int | None]:
    """A rank for each matrix so that all lose least together: one slope for all.

    A rank whose factors hold as many numbers as the matrix itself is not worth having: such a
    matrix stays whole.

    Args:
        tails: Damage of each at every rank, (most + 1,), in one currency.
        sides: (rows, columns) of each.
        budget: Numbers allowed in all.

    Returns:
        Ranks, at least 1; None for a matrix that stays whole.
    """
    curves = []
    for tail, (rows, columns) in zip(tails, sides, strict=True):
        most = largest_rank(rows, columns)
        sizes = np.array(
            [*(rank * (rows + columns) for rank in range(1, most + 1)), rows * columns]
        )
        damage = np.append(tail[1 : most + 1].numpy(), 0.0)
        curves.append(Curve(np.arange(len(sizes), dtype=float), damage, sizes.astype(float)))
    picks = equal_slope(curves, budget)
    _spend(curves, picks, budget)
    whole = [len(curve.bytes) - 1 for curve in curves]
    return [None if pick == last else pick + 1 for pick, last in zip(picks, whole, strict=True)]


def largest_rank(rows: int, columns: int) -> int:
    """The largest rank whose two factors hold fewer numbers than the matrix; at least 1."""
    return max(1, (rows * columns - 1) // (rows + columns))


def _spend(curves: Sequence[Curve], picks: list[int], budget: float) -> None:
    """What one slope for all leaves of the budget goes to the steps that save most per number."""
    left = budget - sum(float(c.bytes[i]) for c, i in zip(curves, picks, strict=True))
    while True:
        able = [
            ((c.damage[i] - c.damage[i + 1]) / (c.bytes[i + 1] - c.bytes[i]), which)
            for which, (c, i) in enumerate(zip(curves, picks, strict=True))
            if i + 1 < len(c.bytes) and c.bytes[i + 1] - c.bytes[i] <= left
        ]
        if not able:
            return
        _, which = max(able)
        pick = picks[which]
        left -= float(curves[which].bytes[pick + 1] - curves[which].bytes[pick])
        picks[which] = pick + 1
