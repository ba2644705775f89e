"""Operators over windows of space or time: channels go through, the rest is fixed."""

from lilliput.shapes.atoms import Axes, fixed
from lilliput.shapes.flow import Rule, Several, Step

_POOLS = "avg_pool max_pool adaptive_avg_pool adaptive_max_pool upsample_nearest"


def windows(step: Step) -> Axes | Several:
    """All axes but the last ones, over which windows move."""
    axes = step.axes(step.tensors()[0])
    rank = int(next(letter for letter in step.name if letter.isdigit()))
    result = [*axes[:-rank], *(fixed(size) for size in step.shape[-rank:])]
    return result if len(step.results) == 1 else tuple(list(result) for _ in step.results)


def resized(step: Step) -> Axes:
    """Interpolation: batch and channels go through."""
    axes = step.axes(step.tensors()[0])
    return [*axes[:2], *(fixed(size) for size in step.shape[2:])]


RULES: dict[str, Rule] = {
    **{f"{name}{rank}d": windows for name in _POOLS.split() for rank in (1, 2, 3)},
    **{f"max_pool{rank}d_with_indices": windows for rank in (2, 3)},
    **dict.fromkeys(
        ["upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"],
        resized,
    ),
    "upsample_nearest_exact2d": resized,
}
