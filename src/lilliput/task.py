"""What must keep working: the model, examples of its input, and how its answers are scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

Rows = np.ndarray  # (N, k) float64: one row per example, k columns that `aggregate` sums up


class Metric(Protocol):
    """Scores examples one by one and says how the scores aggregate.

    Attributes:
        name: Word for it in reports.
        higher_is_better: Direction.
        range: (lowest, highest) possible value of the aggregate; infinite ends allowed.
        reference: What `targets` are in `rows`: ``"targets"`` (the user's labels) or
            ``"original"`` (the original model's outputs on the same examples; label-free).
    """

    name: str
    higher_is_better: bool
    range: tuple[float, float]
    reference: str

    def rows(self, outputs: Tensor, targets: Any) -> Rows:
        """One row per example: (N, ...) outputs and N targets -> (N, k)."""
        ...

    def aggregate(self, rows: Rows) -> float:
        """The score of a set of examples from its rows, (N, k) -> float."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """PLACEHOLDER: completed in task.py's own commit."""

    model: nn.Module
    examples: Sequence[Any]
    metric: Any = None
