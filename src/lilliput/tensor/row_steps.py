"""Steps of rows on which the codes, their errors fed back, lose least.

A row of few weights whose inputs are strongly correlated, such as a depthwise kernel behind a
rectifier, loses mostly by what its codes' sum lacks. How much that is changes from step to step
as if by chance, so of many steps that are nearly the same some lose a tenth of what others do.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SHARES = tuple(1 + place / 80 for place in range(16))  # of the step with which no code is clipped
Lose = Callable[[Tensor], Tensor]


def best_steps(
    first: Tensor, whole: Tensor, *, lose: Lose, shares: Sequence[float] = SHARES
) -> Tensor:
    """Per row the step that loses least, of the first one and some near another.

    Args:
        first: (out,) positive.
        whole: (out,) positive; the shares are of these.
        lose: (out,) steps -> (out,) what each row loses with its own.
        shares: Which are tried.

    Returns:
        (out,) steps; rows that win nothing keep their first.
    """
    found, least = first, lose(first)
    for share in shares:
        steps = whole * share
        lost = lose(steps)
        better = lost < least
        found, least = torch.where(better, steps, found), torch.where(better, lost, least)
    return found
