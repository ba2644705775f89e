"""Sums of x xᵀ in bounded memory."""

import torch
from torch import Tensor

_DOUBLE_UP_TO = 1024  # columns; beyond it the accumulator is float32 to halve its memory


class Gram:
    """Accumulates sum x xᵀ, sum x and the number of rows, per group."""

    def __init__(self, groups: int, columns: int) -> None:
        kind = torch.float64 if columns <= _DOUBLE_UP_TO else torch.float32
        self.second = torch.zeros(groups, columns, columns, dtype=kind)
        self.total = torch.zeros(groups, columns, dtype=torch.float64)
        self.count = 0.0

    def add(self, rows: Tensor, weights: Tensor | None = None) -> None:
        """Adds (groups, N, columns) rows, each counted `weights` (N,) times (0 leaves it out)."""
        if weights is not None:
            keep = weights > 0
            rows, weights = rows[:, keep], weights[keep]
        rows = rows.to("cpu", torch.float32)
        weighted, count = rows, float(rows.shape[1])
        if weights is not None and not bool((weights == 1).all()):
            weighted = rows * weights[:, None]
            count = float(weights.sum(dtype=torch.float64))
        self.second += weighted.transpose(1, 2) @ rows
        self.total += weighted.sum(1, dtype=torch.float64)
        self.count += count

    @property
    def finite(self) -> bool:
        """Whether no NaN or infinity has come in."""
        diagonal = torch.diagonal(self.second, dim1=1, dim2=2)
        return bool(torch.isfinite(self.total).all()) and bool(torch.isfinite(diagonal).all())
