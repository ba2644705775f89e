"""The patches a convolution multiplies its weight with, in bounded memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 8 * 2**20  # 32 MB of float32: the largest temporary buffer


@dataclass(frozen=True)
class Geometry:
    """How a convolution walks over its input; one entry per spatial axis.

    Attributes:
        kernel: Sizes of the kernel.
        stride: Step between output positions.
        padding: Zeros on both sides, or (before, after), or ``"same"`` or ``"valid"``.
        dilation: Step between the kernel's taps.
        groups: Groups of channels.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int | tuple[int, int], ...] | str
    dilation: tuple[int, ...]
    groups: int = 1

    @classmethod
    def of(cls, kernel: Sequence[int], settings: Sequence[Any]) -> "Geometry":
        """From a kernel and the settings stride, padding, dilation, groups, short forms allowed."""
        stride, padding, dilation, groups = settings
        dims = len(kernel)
        return cls(
            kernel=tuple(int(size) for size in kernel),
            stride=_each(stride, dims),
            padding=padding if isinstance(padding, str) else _each(padding, dims),
            dilation=_each(dilation, dims),
            groups=int(groups),
        )

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """Zeros before and after, per axis."""
        if self.padding == "valid":
            return ((0, 0),) * len(self.kernel)
        if isinstance(self.padding, str):
            spans = [d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True)]
            return tuple((span // 2, span - span // 2) for span in spans)
        return tuple(a if isinstance(a, tuple) else (a, a) for a in self.padding)


def _each(value: Any, dims: int) -> tuple[int, ...]:
    values = [value] if isinstance(value, int) else [int(item) for item in value]
    return tuple(values * dims if len(values) == 1 else values)


def patches(source: Tensor, geometry: Geometry) -> Tensor:
    """What the weight is multiplied with at each output position, as a view without a copy.

    Args:
        source: (batch, channels, *sizes), or without the batch axis.
        geometry: One to three spatial axes.

    Returns:
        (batch, *out sizes, channels, *kernel), strided.
    """
    dims = len(geometry.kernel)
    batched = source if source.ndim == dims + 2 else source[None]
    amounts = [amount for pair in reversed(geometry.pads) for amount in pair]
    padded = F.pad(batched, amounts).contiguous()
    sizes = [
        (size - step * (width - 1) - 1) // jump + 1
        for size, width, jump, step in zip(
            padded.shape[2:], geometry.kernel, geometry.stride, geometry.dilation, strict=True
        )
    ]
    first, channel, *axes = padded.stride()
    jumps = [axis * jump for axis, jump in zip(axes, geometry.stride, strict=True)]
    steps = [axis * step for axis, step in zip(axes, geometry.dilation, strict=True)]
    return padded.as_strided(
        (padded.shape[0], *sizes, padded.shape[1], *geometry.kernel),
        (first, *jumps, channel, *steps),
    )  # (batch, *out, channels, *kernel)


def thinning(sizes: Sequence[int], most: int) -> int:
    """The step along every axis that leaves at most about `most` of the output positions."""
    positions = math.prod(sizes)
    return 1 if positions <= most else math.ceil((positions / most) ** (1 / len(sizes)))


def patch_rows(view: Tensor, groups: int) -> Iterator[tuple[Tensor, slice]]:
    """Copies patches into rows, a bounded chunk at a time.

    Args:
        view: (batch, *out, channels, *kernel) from `patches`.
        groups: Groups of the convolution.

    Yields:
        (groups, n, columns) rows, and which of the batch x out positions they are.
    """
    dims = (view.ndim - 2) // 2
    line = math.prod(view.shape[2 : 1 + dims])  # positions per step of the first spatial axis
    each = line * math.prod(view.shape[1 + dims :])  # elements per such step
    lines = max(1, CHUNK_ELEMENTS // max(1, each))
    examples, depth = max(1, lines // max(1, view.shape[1])), view.shape[1]
    if examples == 1:
        depth = min(depth, lines)
    for first in range(0, view.shape[0], examples):
        for top in range(0, view.shape[1], depth):
            piece = view[first : first + examples, top : top + depth]
            count = math.prod(piece.shape[: 1 + dims])
            rows = piece.reshape(count, groups, -1).transpose(0, 1)  # (groups, n, columns)
            start = (first * view.shape[1] + top) * line
            yield rows, slice(start, start + count)
