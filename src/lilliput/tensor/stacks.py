"""A convolution with a large kernel as two with smaller ones, one after the other."""

import torch
from torch import Tensor
from torch.nn import functional

from lilliput.tensor.products import last_factor

SWEEPS = 30
SMALLEST_GAIN = 1e-6  # of the weight's energy: a sweep that gains less is the last

_WALKS = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def composed(first: Tensor, last: Tensor) -> Tensor:
    """The one weight that does what two do one after the other, without padding between.

    Args:
        first: (middle, in, *kernel).
        last: (out, middle, *kernel).

    Returns:
        (out, in, *kernel), each axis of the kernel as long as both together less one.
    """
    walk = _WALKS[first.ndim - 2]
    return walk(first.transpose(0, 1), last.transpose(0, 1)).transpose(0, 1)


def stacked(weight: Tensor, *, middle: int, size: int = 3) -> tuple[Tensor, Tensor]:
    """Two weights whose composition is near, by alternating least squares.

    Args:
        weight: (out, in, *kernel).
        middle: Channels between them.
        size: Of the first one's kernel, on each axis.

    Returns:
        (middle, in, *size) and (out, middle, *rest).
    """
    inside, *kernel = weight.shape[1:]
    generator = torch.Generator().manual_seed(middle)
    first = torch.randn(middle, inside, *[size] * len(kernel), generator=generator)
    rest = [long - size + 1 for long in kernel]
    last = refitted_last(weight, first, rest=rest)
    energy = float(weight.square().sum()) or 1.0
    lost = float((weight - composed(first, last)).square().sum())
    for _ in range(SWEEPS):
        turned = refitted_last(
            weight.transpose(0, 1), last.transpose(0, 1), rest=[size] * len(kernel)
        )
        first = turned.transpose(0, 1)
        first = first / first.square().mean().sqrt().clamp_min(1e-30)
        last = refitted_last(weight, first, rest=rest)
        before, lost = lost, float((weight - composed(first, last)).square().sum())
        if before - lost < SMALLEST_GAIN * energy:
            break
    return first.contiguous(), last.contiguous()


def refitted_last(
    weight: Tensor, first: Tensor, *, rest: list[int], second: Tensor | None = None
) -> Tensor:
    """The last weight that loses least behind a given first one: least squares.

    Args:
        weight: (out, in, *kernel).
        first: (middle, in, *kernel).
        rest: The last one's kernel.
        second: (in * taps, in * taps), second moments of the patches; None counts all alike.

    Returns:
        (out, middle, *rest).
    """
    middle = len(first)
    width = middle * int(torch.tensor(rest).prod())
    unit = torch.eye(width).reshape(width, middle, *rest)
    before = composed(first, unit).reshape(width, -1)
    moments = torch.eye(before.shape[1]) if second is None else second
    last = last_factor(before, weight.reshape(len(weight), -1), second=moments)
    return last.reshape(len(weight), middle, *rest)
