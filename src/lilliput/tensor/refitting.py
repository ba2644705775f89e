"""Least squares for weights whose inputs became fewer or others: the same answers from what stays.

Of a layer that answered y and whose weight W now reads x, the correction D solves
``min E|y - (W + D) x - c|^2``; where nothing upstream changed that is the update of Optimal Brain
Surgeon for all inputs that went (Hassibi & Stork 1993), D = W_R H_RK inv(H_KK).
"""

import torch
from torch import Tensor

from lilliput.tensor.second_order import damped, share_for_units, toward_diagonal


class Misses:
    """Sums over rows of what a layer reads and of what its answer misses.

    Args:
        groups: Groups of the layer.
        columns: Inputs of a group.
        rows: Outputs of a group.
    """

    def __init__(self, groups: int, columns: int, rows: int) -> None:
        self.second = torch.zeros(groups, columns, columns, dtype=torch.float64)
        self.cross = torch.zeros(groups, rows, columns, dtype=torch.float64)
        self.inputs = torch.zeros(groups, columns, dtype=torch.float64)
        self.missed = torch.zeros(groups, rows, dtype=torch.float64)
        self.count = 0

    def add(self, inputs: Tensor, missed: Tensor) -> None:
        """Adds rows: (groups, n, columns) what is read, (groups, n, rows) what is missed."""
        self.second += inputs.transpose(1, 2) @ inputs
        self.cross += missed.transpose(1, 2) @ inputs
        self.inputs += inputs.sum(1, dtype=torch.float64)
        self.missed += missed.sum(1, dtype=torch.float64)
        self.count += inputs.shape[1]

    def correction(self, *, centred: bool) -> tuple[Tensor, Tensor]:
        """What to add to the weight, and to the bias.

        Second moments are shrunk toward their diagonal, products with what is missed by as much,
        and damped: with few rows little is corrected.

        Args:
            centred: Whether there is a bias that can take over the means.

        Returns:
            (groups, rows, columns) and (groups, rows) in float32, the second 0 without a bias.
        """
        count = max(1, self.count)
        second, cross = self.second / count, self.cross / count
        inputs, missed = self.inputs / count, self.missed / count
        if centred:
            second = second - inputs[:, :, None] * inputs[:, None, :]
            cross = cross - missed[:, :, None] * inputs[:, None, :]
        columns = second.shape[-1]
        share = share_for_units(columns, self.count)
        factor = torch.linalg.cholesky(damped(toward_diagonal(second, share)))
        found = torch.cholesky_solve((1 - share) * cross.transpose(1, 2), factor).transpose(1, 2)
        shift = torch.zeros_like(missed)
        if centred:
            shift = missed - (found @ inputs[:, :, None])[:, :, 0]
        return found.float(), shift.float()
