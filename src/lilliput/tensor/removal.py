"""Which units of widths go, from what each is worth."""

from collections.abc import Sequence

import torch
from torch import Tensor


def kept_units(
    scores: Sequence[Tensor], remove: float, *, multiples: Sequence[int], together: bool
) -> list[Tensor]:
    """The units that stay when those of the lowest scores go; of equal ones the first stay.

    Args:
        scores: Per width, (units,): what its units are worth.
        remove: Share of the units to remove, in (0, 1).
        multiples: Per width, what the number of units left is a multiple of; a width of less than
            two multiples is left with any number. At least one unit, or one multiple, stays.
        together: Rank the units of all widths together instead of width by width.

    Returns:
        Per width the places of the units that stay, ascending.
    """
    shares = [1 - remove] * len(scores)
    if together:
        every = torch.cat([one.double() for one in scores])
        gone = every.argsort(stable=True, descending=True)[round(len(every) * (1 - remove)) :]
        stays = torch.ones(len(every)).index_fill(0, gone, 0)
        shares = [float(part.mean()) for part in torch.split(stays, [len(one) for one in scores])]
    return [
        _best(one, left(len(one), share, multiple=multiple))
        for one, share, multiple in zip(scores, shares, multiples, strict=True)
    ]


def left(units: int, share: float, *, multiple: int) -> int:
    """How many of a width's units stay: the share, rounded to a multiple, never none.

    Args:
        units: How many there are.
        share: To keep, in [0, 1].
        multiple: See `kept_units`.
    """
    step = multiple if units >= 2 * multiple else 1
    return min(units, max(step, int(units * share / step + 0.5) * step))


def _best(scores: Tensor, count: int) -> Tensor:
    """Places of the highest scores, ascending."""
    return scores.argsort(stable=True, descending=True)[:count].sort().values
