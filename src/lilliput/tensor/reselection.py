"""Kept weights fitted under both sides of the metric, and removed ones exchanged for them."""

import torch
from torch import Tensor

FIRST_ROUNDS = 40  # of conjugate gradients, for a mask seen the first time
ROUNDS = 12  # after an exchange
TOLERANCE = 1e-7  # of the squared residual
FIRST_SHARE = 0.2  # of the removed weights, exchanged at once
LEAST_GAIN = 5e-4  # of the loss, for which an exchange is kept


class TwoSided:
    """``min tr(G (W - V) H (W - V)^T)`` over V that is zero off a mask.

    Args:
        weight: W, (rows, columns).
        second: H, (columns, columns), positive definite.
        output: G, (rows, rows), positive definite, or its diagonal, (rows,).
    """

    def __init__(self, weight: Tensor, *, second: Tensor, output: Tensor) -> None:
        self.weight = weight.to(torch.float32)
        self.second, self.output = second.to(torch.float32), output.to(torch.float32)
        diagonal = self.output if self.output.dim() == 1 else self.output.diagonal()
        columns = self.second.diagonal().clamp_min(1e-20)
        self.curvature = diagonal.clamp_min(1e-20)[:, None] * columns  # of each weight alone

    def loss(self, value: Tensor) -> float:
        """What V loses."""
        error = self.weight - value
        return float((self._image(error) * error).sum())

    def fitted(self, value: Tensor, mask: Tensor, *, rounds: int = FIRST_ROUNDS) -> Tensor:
        """The best V, (rows, columns), by conjugate gradients from a first one.

        Args:
            value: Where to begin.
            mask: (rows, columns) bool, True where a weight is kept.
            rounds: At most so many.
        """
        kept = mask.to(torch.float32)
        value = value * kept
        residual = self._image(self.weight - value) * kept
        towards = residual / self.curvature
        direction, size = towards, float((residual * towards).sum())
        least = TOLERANCE * size
        for _ in range(rounds):
            if size <= least:
                break
            image = self._image(direction) * kept
            step = size / float((direction * image).sum())
            value, residual = value + step * direction, residual - step * image
            towards = residual / self.curvature
            before, size = size, float((residual * towards).sum())
            direction = towards + size / before * direction
        return value

    def exchanged(self, value: Tensor, mask: Tensor, *, share: float) -> Tensor:
        """A mask of as many weights: removed ones that would gain most for kept ones worth least.

        With all others as they are, a weight free to move lowers the loss by its curvature times
        the square of its best value; that is what it is worth.

        Args:
            value: Fitted to the mask.
            mask: (rows, columns) bool.
            share: Of the removed weights, at most so many are exchanged.
        """
        best = value + self._image(self.weight - value) / self.curvature
        worth = (best.square() * self.curvature).flatten()
        flat = mask.flatten()
        count = min(int(share * int((~flat).sum())), int(flat.sum()))
        added = torch.where(flat, -torch.inf, worth).topk(count).indices
        removed = torch.where(flat, worth, torch.inf).topk(count, largest=False).indices
        better = worth[added] > worth[removed]
        found = flat.clone()
        found[added[better]], found[removed[better]] = True, False
        return found.reshape(mask.shape)

    def _image(self, error: Tensor) -> Tensor:
        """``G E H``."""
        image = error @ self.second
        return self.output[:, None] * image if self.output.dim() == 1 else self.output @ image


def reselected(problem: TwoSided, value: Tensor, *, mask: Tensor, swaps: int) -> Tensor:
    """The mask after some exchanges that paid, each followed by a fit; as many weights are kept.

    Args:
        problem: Weight and metric.
        value: A first guess of the kept weights, (rows, columns).
        mask: (rows, columns) bool.
        swaps: How many exchanges are tried; one that does not pay halves the next.

    Returns:
        (rows, columns) bool.
    """
    value = problem.fitted(value, mask)
    least, share = problem.loss(value), FIRST_SHARE
    for _ in range(swaps):
        tried = problem.exchanged(value, mask, share=share)
        if torch.equal(tried, mask):
            break
        moved = problem.fitted(value, tried, rounds=ROUNDS)
        loss = problem.loss(moved)
        if loss < (1 - LEAST_GAIN) * least:
            value, mask, least = moved, tried, loss
        else:
            share /= 2
    return mask
