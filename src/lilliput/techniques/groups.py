"""A site group by group: each group of a convolution has inputs, and a column side, of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

from lilliput.model.profiles import SiteProfile

PerGroup = Callable[[Tensor, Tensor, slice], Tensor]  # rows, their H, which rows


def by_group(known: SiteProfile, weight: Tensor, *, solve: PerGroup) -> Tensor:
    """`solve` on the rows of each group of a convolution, with the group's column side.

    Without statistics every column counts the same.
    """
    groups = 1 if known.second is None else len(known.second)
    size = known.site.rows // groups
    parts = []
    for group in range(groups):
        rows = slice(group * size, (group + 1) * size)
        second = torch.eye(known.site.columns) if known.second is None else known.second[group]
        parts.append(solve(weight[rows], second, rows))
    return torch.cat(parts)
