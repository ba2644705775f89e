"""Greedy second-order removal of groups of inputs: Optimal Brain Surgeon on whole units.

What reads the units is a set of layers, each with a weight W and second moments H of its inputs.
To remove the inputs u of one layer, the others absorbing what they can, costs
``tr(W_u inv(P_uu) W_u^T)`` with P = inv(H) (Hassibi & Stork 1993; Frantar & Alistarh 2022, arXiv
2208.11580, for groups); the unit whose inputs cost least over all layers goes first, weights and P
are updated, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lilliput.tensor.second_order import damped

_FLUSH = 64  # columns of updates that are held back before they are applied


@dataclass(frozen=True)
class Reading:
    """A layer that reads units.

    Attributes:
        weight: (rows, columns).
        second: H, (columns, columns).
        inputs: (units, p) columns that belong to each unit.
    """

    weight: Tensor
    second: Tensor
    inputs: Tensor


def greedy_removal(readings: Sequence[Reading], count: int) -> tuple[Tensor, Tensor]:
    """Which units go, one after the other, and what each costs once those before it went.

    Args:
        readings: All layers that read the units.
        count: How many go, at most the number of units.

    Returns:
        (count,) units in the order of their going, and (units,) costs: of a unit that went at its
        turn, of one that stays now, never less than of one that went before it.
    """
    parts = [_Part(reading) for reading in readings]
    units = readings[0].inputs.shape[0]
    alive = torch.ones(units, dtype=torch.bool)
    order, costs, worst = [], torch.zeros(units, dtype=torch.float64), 0.0
    for _ in range(count):
        now = torch.stack([part.costs() for part in parts]).sum(0)
        unit = int(now.masked_fill(~alive, torch.inf).argmin())
        worst = max(worst, float(now[unit]))
        costs[unit] = worst
        order.append(unit)
        alive[unit] = False
        for part in parts:
            part.remove(unit)
    now = torch.stack([part.costs() for part in parts]).sum(0).clamp_min(worst)
    return torch.tensor(order, dtype=torch.long), torch.where(alive, now, costs)


class _Part:
    """One layer while units go: P and W of the last flush, and the updates since then.

    P = P0 - V V^T and W = W0 - A V^T, with V (columns, m) and A (rows, m).
    """

    def __init__(self, reading: Reading) -> None:
        self._inputs = reading.inputs
        lower = torch.linalg.cholesky(damped(reading.second))
        self._inverse = torch.cholesky_inverse(lower)
        self._weight = reading.weight.to(torch.float64)
        columns = reading.inputs
        self._own = self._inverse[columns[:, :, None], columns[:, None, :]]  # (units, p, p) of P
        read = self._weight[:, columns].transpose(0, 1)  # (units, rows, p)
        self._gram = read.transpose(1, 2) @ read  # (units, p, p) of W^T W
        self._spread = torch.zeros(len(self._inverse), 0, dtype=torch.float64)
        self._moved = torch.zeros(len(self._weight), 0, dtype=torch.float64)

    def costs(self) -> Tensor:
        """(units,) of going now; meaningless for those that went."""
        if self._own.shape[-1] == 1:
            return self._gram[:, 0, 0] / self._own[:, 0, 0].clamp_min(1e-30)
        solved: Tensor = torch.linalg.solve_ex(self._own, self._gram)[0]
        return solved.diagonal(dim1=1, dim2=2).sum(1)

    def remove(self, unit: int) -> None:
        """Takes the unit's inputs out; the others absorb what they can."""
        place = self._inputs[unit]
        lines = self._inverse[place] - self._spread[place] @ self._spread.T  # (p, columns) of P
        read = self._weight[:, place] - self._moved @ self._spread[place].T  # (rows, p) of W
        lower = torch.linalg.cholesky_ex(lines[:, place])[0]
        spread = torch.linalg.solve_triangular(lower, lines, upper=False).T  # (columns, p)
        moved = torch.linalg.solve_triangular(lower, read.T, upper=False).T  # (rows, p)
        seen = self._weight.T @ moved - self._spread @ (self._moved.T @ moved)  # (columns, p)
        ours, theirs = spread[self._inputs], seen[self._inputs]  # (units, p, p) each
        self._own -= ours @ ours.transpose(1, 2)
        crossed = theirs @ ours.transpose(1, 2)
        self._gram += ours @ (moved.T @ moved) @ ours.transpose(1, 2)
        self._gram -= crossed + crossed.transpose(1, 2)
        self._own[unit] = torch.eye(len(place), dtype=torch.float64)
        self._spread = torch.cat([self._spread, spread], 1)
        self._moved = torch.cat([self._moved, moved], 1)
        if self._spread.shape[1] >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        self._inverse -= self._spread @ self._spread.T
        self._weight = self._weight - self._moved @ self._spread.T
        self._spread, self._moved = self._spread[:, :0], self._moved[:, :0]
