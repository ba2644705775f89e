"""Sums of x xᵀ in bounded memory, and the patches a convolution multiplies its weight with."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 8 * 2**20  # 32 MB of float32: the largest temporary buffer
_DOUBLE_UP_TO = 1024  # columns; beyond it the accumulator is float32 to halve its memory


class Gram:
    """Accumulates sum x xᵀ, sum x and the number of rows, per group."""

    def __init__(self, groups: int, columns: int) -> None:
        kind = torch.float64 if columns <= _DOUBLE_UP_TO else torch.float32
        self.second = torch.zeros(groups, columns, columns, dtype=kind)
        self.total = torch.zeros(groups, columns, dtype=torch.float64)
        self.count = 0.0

    def add(self, rows: Tensor, weights: Tensor | None = None) -> None:
        """Adds (groups, N, columns) rows, each counted `weights` (N,) times."""
        rows = rows.float()
        count = float(rows.shape[1])
        weighted = rows
        if weights is not None:
            weights = weights.to(rows.dtype)
            count = float(weights.sum(dtype=torch.float64))
            weighted = rows * weights[:, None]
        self.second += weighted.transpose(1, 2) @ rows
        self.total += weighted.sum(1, dtype=torch.float64)
        self.count += count

    @property
    def finite(self) -> bool:
        """Whether no NaN or infinity has come in."""
        return bool(torch.isfinite(self.total).all()) and bool(
            torch.isfinite(torch.diagonal(self.second, dim1=1, dim2=2)).all()
        )


def patches(
    source: Tensor,
    kernel: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
) -> Tensor:
    """What a convolution multiplies its weight with, as a view without a copy.

    Args:
        source: (batch, channels, *sizes), 1 to 3 sizes.
        kernel: Sizes of the kernel; `stride` and `dilation` have the same length.
        padding: Zeros on both sides of each axis, or ``"same"`` or ``"valid"``.

    Returns:
        (batch, *out sizes, channels, *kernel), strided.
    """
    padded = F.pad(source, _pads(kernel, padding, dilation)).contiguous()
    sizes = [
        (size - step * (width - 1) - 1) // jump + 1
        for size, width, jump, step in zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    ]
    strides = padded.stride()
    return padded.as_strided(
        (padded.shape[0], *sizes, padded.shape[1], *kernel),
        (
            strides[0],
            *(axis * jump for axis, jump in zip(strides[2:], stride, strict=True)),
            strides[1],
            *(axis * step for axis, step in zip(strides[2:], dilation, strict=True)),
        ),
    )  # (batch, *out, channels, *kernel)


def _pads(
    kernel: Sequence[int], padding: Sequence[int] | str, dilation: Sequence[int]
) -> list[int]:
    """Amounts for `F.pad`, last axis first."""
    if padding == "valid":
        return [0] * (2 * len(kernel))
    if padding == "same":
        totals = [step * (width - 1) for width, step in zip(kernel, dilation, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(int(amount), int(amount)) for amount in padding]
    return [amount for pair in reversed(pairs) for amount in pair]


def patch_rows(view: Tensor, groups: int) -> Iterator[tuple[Tensor, slice]]:
    """Copies patches into rows, a bounded chunk at a time.

    Args:
        view: (batch, *out, channels, *kernel) from `patches`.
        groups: Groups of the convolution.

    Yields:
        (groups, n, columns) rows and which of the batch x first out axis positions they are.
    """
    dims = (view.ndim - 2) // 2
    positions = math.prod(view.shape[1 : 1 + dims])
    each = positions * math.prod(view.shape[1 + dims :])
    step = max(1, CHUNK_ELEMENTS // max(1, each))
    for first in range(0, view.shape[0], step):
        examples = view[first : first + step]
        inner = max(1, view.shape[1] * CHUNK_ELEMENTS // max(1, each)) if step == 1 else None
        for row in range(0, view.shape[1], inner or view.shape[1]):
            piece = examples[:, row : row + (inner or view.shape[1])]
            count = math.prod(piece.shape[: 1 + dims])
            rows = piece.reshape(count, groups, -1).transpose(0, 1)  # (groups, n, columns)
            start = first * positions + row * (positions // view.shape[1])
            yield rows, slice(start, start + count)
