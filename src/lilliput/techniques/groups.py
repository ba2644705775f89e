"""A site group by group: each group of a convolution has inputs, and a column side, of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

PerGroup = Callable[[Tensor, Tensor, slice], Tensor]  # rows, the side of their group, which rows


def by_group(weight: Tensor, sides: Tensor, *, solve: PerGroup) -> Tensor:
    """`solve` on the rows of each group.

    Args:
        weight: (rows, columns); the rows are split evenly over the groups in order.
        sides: (groups, columns, columns), e.g. `Profile.column_side` or `Profile.factor`.
        solve: What becomes of some rows, given their group's side.
    """
    size = len(weight) // len(sides)
    parts = []
    for group, side in enumerate(sides):
        rows = slice(group * size, (group + 1) * size)
        parts.append(solve(weight[rows], side, rows))
    return torch.cat(parts)
