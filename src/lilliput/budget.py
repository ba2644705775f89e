"""The limits: what may remain of each size, and how much worse the score may get."""

from dataclasses import dataclass
from typing import Literal

from lilliput.records import LimitName

Unit = Literal["share", "bytes", "ms", "joules", "metric"]


@dataclass(frozen=True)
class Limit:
    """One limit as it was asked for.

    Attributes:
        name: Which quantity is limited.
        amount: A fraction for ``share``, otherwise a number in `unit`.
        unit: ``share`` (of the original; for a drop: points of a metric in [0, 1], or relative to
            the original for an unbounded positive metric), ``bytes``, ``ms``, ``joules`` or
            ``metric`` (a plain number in the metric's unit).
        text: What the user wrote, normalised, e.g. ``9%`` or ``4MB``.
    """

    name: LimitName
    amount: float
    unit: Unit
    text: str
