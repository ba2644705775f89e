"""How closely two programs answer the same, in decibels."""

from collections.abc import Iterable

import numpy as np

from lilliput.records import Fidelity

_NO_AGREEMENT = -300.0  # finite: a report writes what is not as null
Pair = tuple[np.ndarray, np.ndarray]


def signal_to_noise(wanted: np.ndarray, answer: np.ndarray) -> float | None:
    """10 log10(signal / squared difference) in decibels; None when the arrays are identical."""
    return fidelity([(wanted, answer)]).decibels


def fidelity(pairs: Iterable[Pair]) -> Fidelity:
    """Agreement over all batches; only one pair is held.

    Args:
        pairs: (wanted, answered) arrays of one shape, (N, ...) each.
    """
    agreement = Agreement()
    for wanted, answer in pairs:
        agreement.add(wanted, answer)
    return agreement.fidelity


class Agreement:
    """How closely two programs answer the same, batch by batch."""

    def __init__(self) -> None:
        self._signal = self._noise = self._largest = 0.0
        self._examples = 0

    def add(self, wanted: np.ndarray, answer: np.ndarray) -> None:
        """One batch of both, (N, ...) each."""
        wanted, answer = (np.atleast_1d(a.astype(np.float64)) for a in (wanted, answer))
        with np.errstate(invalid="ignore"):
            difference = np.where(np.isnan(wanted) & np.isnan(answer), 0, wanted - answer)
        difference = np.where(wanted == answer, 0, difference)  # equal infinities
        difference = np.nan_to_num(np.abs(difference), nan=np.inf, posinf=np.inf)
        self._signal += float(np.square(np.nan_to_num(wanted, posinf=0, neginf=0)).sum())
        self._noise += float(np.square(difference).sum())
        self._largest = max(self._largest, float(difference.max(initial=0)))
        self._examples += len(wanted)

    @property
    def fidelity(self) -> Fidelity:
        """Decibels over all numbers of all batches, at least -300.

        That is what not-a-number on one side only or an infinite difference gives.
        """
        decibels = None
        if self._noise != 0:
            with np.errstate(divide="ignore"):
                decibels = max(float(10 * np.log10(self._signal / self._noise)), _NO_AGREEMENT)
        return Fidelity(
            decibels=decibels, largest_difference=self._largest, examples=self._examples
        )
