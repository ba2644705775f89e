"""How closely two programs answer the same, in decibels."""

from collections.abc import Iterable, Iterator

import numpy as np

from lilliput.records import Fidelity

_NO_AGREEMENT = -300.0  # finite: a report writes what is not as null
Pair = tuple[np.ndarray, np.ndarray]


def signal_to_noise(wanted: np.ndarray, answer: np.ndarray) -> float | None:
    """10 log10(signal / squared difference) in decibels; None when the arrays are identical."""
    return fidelity([(wanted, answer)]).decibels


def fidelity(pairs: Iterable[Pair]) -> Fidelity:
    """Agreement over all batches.

    Args:
        pairs: (wanted, answered) arrays of one shape, (N, ...) each; only one pair is held.

    Returns:
        Decibels over all numbers of all batches, at least -300: what not-a-number on one side only
        or an infinite difference gives.
    """
    signal = noise = largest = 0.0
    examples = 0
    for wanted, answer in _wide(pairs):
        with np.errstate(invalid="ignore"):
            difference = np.where(np.isnan(wanted) & np.isnan(answer), 0, wanted - answer)
        difference = np.where(wanted == answer, 0, difference)  # equal infinities
        difference = np.nan_to_num(np.abs(difference), nan=np.inf, posinf=np.inf)
        signal += float(np.square(np.nan_to_num(wanted, posinf=0, neginf=0)).sum())
        noise += float(np.square(difference).sum())
        largest = max(largest, float(difference.max(initial=0)))
        examples += len(wanted)
    if noise == 0:
        return Fidelity(decibels=None, largest_difference=largest, examples=examples)
    with np.errstate(divide="ignore"):
        decibels = float(10 * np.log10(signal / noise))
    decibels = max(decibels, _NO_AGREEMENT)
    return Fidelity(decibels=decibels, largest_difference=largest, examples=examples)


def _wide(pairs: Iterable[Pair]) -> Iterator[Pair]:
    for wanted, answer in pairs:
        yield np.atleast_1d(wanted.astype(np.float64)), np.atleast_1d(answer.astype(np.float64))
