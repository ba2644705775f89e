"""Rounding up or down, learned by gradient descent (Nagel et al. 2020, arXiv 2004.10568)."""

import torch
from torch import Tensor

from lilliput.tensor.ranges import Ranges

STRETCH = 1.1, -0.1  # ends of the stretched sigmoid, zeta and gamma
RATE = 0.2
WARM_UP = 0.2  # share of the steps without a regulariser
SHARPNESS = 20.0, 2.0  # of the regulariser, from its first step to its last
WORTH = 5.0  # of the regulariser, against the loss of rounding to nearest, per weight
DECAYS = 0.9, 0.999  # Adam's


def learned_codes(
    weight: Tensor,
    ranges: Ranges,
    *,
    second: Tensor,
    output: Tensor,
    iterations: int,
    kept: Tensor | None = None,
) -> Tensor:
    """Codes with less ``tr(G (W - V) H (W - V)^T)`` than the nearest ones, or those.

    Args:
        weight: (rows, columns).
        ranges: Grids.
        second: H, (groups of rows, columns, columns); the rows are split evenly over them.
        output: G, (rows, rows), or its diagonal, (rows,).
        iterations: Steps.
        kept: (rows, columns) bool, False where the value must be zero; None where none must.

    Returns:
        (rows, columns) float32.
    """
    loss = _Loss(weight, second, output)
    steps, zeros = ranges.spread(weight.shape[1])
    exact, top = weight / steps + zeros, 2**ranges.bits - 1
    floor = exact.floor()
    free = (floor >= 0) & (floor < top)
    if kept is not None:
        free &= kept
    nearest = ranges.codes(weight)
    nearest = nearest if kept is None else torch.where(kept, nearest, zeros)
    scale = loss.of((nearest - zeros) * steps)
    if not scale > 0:
        return nearest
    fixed = torch.where(free, floor, nearest)
    state = _Adam(_inverse((exact - floor).clamp(0, 1)))
    for step in range(iterations):
        up, slope = _stretched(state.value)
        moved = torch.where(free, fixed + up, fixed)
        gradient = loss.gradient((moved - zeros) * steps) * steps / scale * float(free.sum())
        gradient += _toward_the_ends(up, step / iterations)
        state.step(torch.where(free, gradient * slope, 0.0))
    found = torch.where(free, fixed + (_stretched(state.value)[0] >= 0.5), fixed)
    better = loss.of((found - zeros) * steps) < scale
    return found if better else nearest


class _Loss:
    """The layer's loss and its gradient."""

    def __init__(self, weight: Tensor, second: Tensor, output: Tensor) -> None:
        self.weight, self.second, self.output = weight, second.to(torch.float32), output

    def of(self, value: Tensor) -> float:
        """``tr(G E H E^T)``."""
        return float(((value - self.weight) * self.gradient(value)).sum()) / 2

    def gradient(self, value: Tensor) -> Tensor:
        """``2 G E H``, (rows, columns)."""
        error = (value - self.weight).reshape(len(self.second), -1, value.shape[1])
        image = (error @ self.second).reshape(value.shape)
        sides = self.output[:, None] * image if self.output.dim() == 1 else self.output @ image
        return 2 * sides


class _Adam:
    """Gradient descent with running moments (Kingma and Ba 2014, arXiv 1412.6980)."""

    def __init__(self, value: Tensor) -> None:
        self.value, self.count = value, 0
        self.first, self.second = torch.zeros_like(value), torch.zeros_like(value)

    def step(self, gradient: Tensor) -> None:
        """Moves the value against the gradient."""
        self.count += 1
        self.first = DECAYS[0] * self.first + (1 - DECAYS[0]) * gradient
        self.second = DECAYS[1] * self.second + (1 - DECAYS[1]) * gradient.square()
        first = self.first / (1 - DECAYS[0] ** self.count)
        second = self.second / (1 - DECAYS[1] ** self.count)
        self.value = self.value - RATE * first / (second.sqrt() + 1e-12)


def _stretched(value: Tensor) -> tuple[Tensor, Tensor]:
    """The stretched sigmoid, cut to [0, 1], and its slope."""
    plain, (high, low) = torch.sigmoid(value), STRETCH
    wide = plain * (high - low) + low
    inside = (wide > 0) & (wide < 1)
    return wide.clamp(0, 1), torch.where(inside, plain * (1 - plain) * (high - low), 0.0)


def _inverse(share: Tensor) -> Tensor:
    """Where the stretched sigmoid has this value in [0, 1]."""
    high, low = STRETCH
    return torch.logit((share - low) / (high - low))


def _toward_the_ends(up: Tensor, done: float) -> Tensor:
    """Slope of ``1 - |2 up - 1| ** sharpness``; nothing while warming up."""
    if done < WARM_UP:
        return torch.zeros_like(up)
    first, last = SHARPNESS
    sharpness = last + (first - last) * (1 - (done - WARM_UP) / (1 - WARM_UP))
    centred = 2 * up - 1
    return -WORTH * 2 * sharpness * centred.abs() ** (sharpness - 1) * centred.sign()
