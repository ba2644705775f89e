"""What a structural step leaves: the changed model with its proof."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from lilliput.shapes.proof import Check
from lilliput.shapes.resize import Kept


@dataclass(frozen=True)
class Reshaped:
    """A copy of a model in another shape.

    Attributes:
        model: The changed copy, in the original's mode.
        how: ``class`` for the user's own class, ``graph`` for its captured graph.
        checks: Comparisons that prove the step, one per size of inputs: against the original deaf
            to what was cut, or against the original itself where the step preserves the function.
        notes: What the user should know: norms that mix what was cut with what stays, weights that
            were fitted anew, what could not be preserved.
        kept: Which units stay, where units were cut.
    """

    model: nn.Module
    how: Literal["class", "graph"]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    kept: Kept | None = None
