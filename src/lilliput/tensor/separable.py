"""A convolution as a depthwise and a pointwise one: the singular values of each input channel."""

import torch
from torch import Tensor

from lilliput.tensor.products import last_factor


def separated(weight: Tensor, *, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest depthwise and pointwise weights; exact where `rank` reaches the kernels' rank.

    For each input channel the singular value decomposition of its (out, taps) kernels (Guo et al.
    2018, arXiv 1808.06866).

    Args:
        weight: (out, in, *kernel).
        rank: Kernels per input channel, 1 to min(out, taps).

    Returns:
        (in * rank, 1, *kernel) and (out, in * rank, *ones).
    """
    out, inside, *kernel = weight.shape
    slices = weight.flatten(2).movedim(1, 0).double()  # (in, out, taps)
    left, sizes, right = torch.linalg.svd(slices, full_matrices=False)
    root = sizes[:, :rank].sqrt()  # (in, rank)
    depth = root[..., None] * right[:, :rank]  # (in, rank, taps)
    points = left[..., :rank] * root[:, None]  # (in, out, rank)
    return (
        depth.reshape(inside * rank, 1, *kernel).float(),
        points.movedim(0, 1).reshape(out, inside * rank, *[1] * len(kernel)).float(),
    )


def refitted_points(weight: Tensor, depth: Tensor, *, second: Tensor) -> Tensor:
    """The pointwise weights that lose least behind given depthwise ones.

    Args:
        weight: (out, in, *kernel).
        depth: (in * rank, 1, *kernel).
        second: (in * taps, in * taps), second moments of the patches.

    Returns:
        (out, in * rank, *ones).
    """
    inside, taps = weight.shape[1], depth[0].numel()
    rank = len(depth) // inside
    before = torch.zeros(len(depth), inside, taps)
    rows = torch.arange(len(depth))
    before[rows, rows // rank] = depth.flatten(1)
    points = last_factor(before.flatten(1), weight.flatten(1), second=second)
    return points.reshape(len(weight), len(depth), *[1] * (weight.ndim - 2))


def joined(depth: Tensor, points: Tensor, *, inside: int) -> Tensor:
    """The one weight that does both, (out, inside, *kernel)."""
    out, middle = points.shape[:2]
    share = points.reshape(out, inside, middle // inside, 1)
    kernels = depth.reshape(1, inside, middle // inside, -1)
    return (share * kernels).sum(2).reshape(out, inside, *depth.shape[2:])
