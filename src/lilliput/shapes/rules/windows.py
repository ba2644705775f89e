"""Operators over windows of space or time: channels go through, the rest is fixed."""

import math

import numpy as np

from lilliput.shapes.atoms import Axes, fixed, live
from lilliput.shapes.flow import Rule, Several, Step

_POOLS = "avg_pool max_pool adaptive_avg_pool adaptive_max_pool upsample_nearest"
_WINDOW = "a window moves over it"


def windowed(step: Step, axes: Axes, *, rank: int) -> Axes:
    """The last axes, over which windows of `rank` axes move: fixed, unless the window is a point.

    A convolution with a kernel of one position at each of them leaves them as they are.
    """
    moved = axes[-rank:]
    if _is_point(step, rank):
        return list(moved)
    for axis in moved:
        if live(axis):
            step.freeze(axis, _WINDOW)
    return [fixed(size) for size in step.shape[-rank:]]


def _is_point(step: Step, rank: int) -> bool:
    """Whether a convolution's kernel reads one position at a time, each of them once."""
    if not step.name.startswith("conv"):
        return False
    kernel = math.prod(len(axis) for axis in step.axes("weight")[2:])
    padding = step["padding"]
    padded = padding != "valid" if isinstance(padding, str) else np.any(padding)
    strided = any(pace != 1 for pace in np.atleast_1d(step["stride"]))
    return kernel == 1 and not padded and not strided


def windows(step: Step) -> Axes | Several:
    """All axes but the last ones, over which windows move."""
    axes = step.axes(step.tensors()[0])
    rank = int(next(letter for letter in step.name if letter.isdigit()))
    result = [*axes[:-rank], *windowed(step, axes, rank=rank)]
    return result if len(step.results) == 1 else tuple(list(result) for _ in step.results)


def resized(step: Step) -> Axes:
    """Interpolation: batch and channels go through."""
    axes = step.axes(step.tensors()[0])
    return [*axes[:2], *windowed(step, axes, rank=len(axes) - 2)]


RULES: dict[str, Rule] = {
    **{f"{name}{rank}d": windows for name in _POOLS.split() for rank in (1, 2, 3)},
    **{f"max_pool{rank}d_with_indices": windows for rank in (2, 3)},
    **dict.fromkeys(
        ["upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"],
        resized,
    ),
    **{f"upsample_nearest_exact{rank}d": resized for rank in (1, 2, 3)},
}
