"""Positions along the axes of tensors, and which of them can only go together.

Every position of every axis that could be cut is one atom, a whole number. An axis of a tensor is
an array of atoms, one per index; `FIXED` marks an index that cannot be cut. Rules tie atoms; the
ties are settled at once, as connected components, so that large models stay fast.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Axis = NDArray[np.int64]
Axes = list[Axis]
FIXED = -1


def fixed(size: int) -> Axis:
    """An axis of which nothing can be cut."""
    return np.full(size, FIXED, dtype=np.int64)


def live(axis: Axis) -> bool:
    """Whether any position of an axis could be cut."""
    return bool((axis >= 0).any())


@dataclass(frozen=True)
class Settled:
    """The atoms once all ties are known.

    Attributes:
        unit: Per atom, the number of the unit it belongs to: units go as a whole.
        frozen: Unit -> why it has to stay.
    """

    unit: Axis
    frozen: dict[int, str]

    def units(self, axis: Axis) -> Axis:
        """The units along an axis; `FIXED` where nothing can be cut."""
        return np.where(axis >= 0, self.unit[np.maximum(axis, 0)], FIXED)


class Atoms:
    """Atoms as they are found, their ties, and those that have to stay."""

    def __init__(self) -> None:
        self.count = 0
        self._ties: list[tuple[Axis, Axis]] = []
        self._frozen: list[tuple[Axis, str]] = []

    def new(self, size: int) -> Axis:
        """An axis of atoms of its own."""
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def tie(self, one: Axis, other: Axis, *, reason: str) -> Axis:
        """Index by index, two axes go together; where one is fixed the other has to stay.

        Args:
            one: (n,) atoms.
            other: (n,) atoms.
            reason: Why a position tied to a fixed one has to stay.

        Returns:
            (n,) the axis that stands for both.
        """
        both = (one >= 0) & (other >= 0) & (one != other)
        if both.any():
            self._ties.append((one[both], other[both]))
        self.freeze(np.where(other < 0, one, FIXED), reason)
        self.freeze(np.where(one < 0, other, FIXED), reason)
        return np.where(one >= 0, one, other)

    def freeze(self, axis: Axis, reason: str) -> None:
        """What lies along an axis has to stay."""
        kept = axis[axis >= 0]
        if kept.size:
            self._frozen.append((kept, reason))

    def settle(self) -> Settled:
        """Units and reasons; of several reasons the first one found counts."""
        pairs = [np.concatenate(side) for side in zip(*self._ties, strict=True)]
        left, right = pairs or [np.zeros(0, np.int64)] * 2
        ties = coo_array((np.ones(left.size, np.int8), (left, right)), (self.count, self.count))
        _, labels = connected_components(ties, directed=False)
        unit = labels.astype(np.int64)
        frozen: dict[int, str] = {}
        for axis, reason in self._frozen:
            for number in np.unique(unit[axis]).tolist():
                frozen.setdefault(number, reason)
        return Settled(unit, frozen)
