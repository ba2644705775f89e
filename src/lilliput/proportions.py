"""Bounds on the difference of two paired proportions: how many right answers became wrong.

Of n paired 0/1 scores, `worse` went from 1 to 0 and `better` from 0 to 1. The difference
``delta = P(worse) - P(better)`` is bounded by inverting Tango's score test (T. Tango, "Equivalence
test and confidence interval for the difference in proportions for the paired-sample design",
Statistics in Medicine 17, 1998, 891-908).

The score test is a large-sample test. Its exact size was summed over the nuisance parameter: it
exceeds its level only where flips in one direction are (almost) impossible, as when an artifact is
compared with the original's own answers. There the problem is a single binomial, so a bound without
any better flip is never below the exact binomial one (C. J. Clopper, E. S. Pearson, Biometrika 26,
1934), which for no flips at all is ``1 - alpha**(1/n)``.
"""

import numpy as np
from scipy.special import betaincinv, ndtri

from lilliput.errors import InputError

Array = np.ndarray
_BISECTIONS = 52  # halvings of an interval of length 2: below 1e-15


def check_confidence(confidence: float) -> None:
    """Raises InputError unless 0.5 < confidence < 1."""
    if not 0.5 < confidence < 1:
        raise InputError(
            f"a confidence of {confidence!r} is not between 0.5 and 1", "the usual one is 0.95"
        )


def zero_flip_bound(examples: int, confidence: float = 0.95) -> float:
    """Upper bound of the share of flips when none was seen: 1 - alpha**(1/n), in (0, 1]."""
    check_confidence(confidence)
    return 1.0 if examples < 1 else float(-np.expm1(np.log1p(-confidence) / examples))


def score_statistic(worse: Array, better: Array, delta: Array, *, examples: int) -> Array:
    """Tango's statistic of the hypothesis P(worse) - P(better) = delta, standard normal under it.

    Args:
        worse: Flips from 1 to 0, any shape.
        better: Flips from 0 to 1, same shape.
        delta: Hypothetical difference in (-1, 1), same shape.
        examples: Number n of pairs.

    Returns:
        Same shape; -inf, 0 or +inf where the hypothesis leaves no variance.
    """
    a = 2.0 * examples
    b = -worse - better + (a - worse + better) * delta
    c = -better * delta * (1 - delta)
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
    stable = np.where(b + root > 0, b + root, 1)
    likeliest = np.where(b > 0, -2 * c / stable, (root - b) / a / 2)  # P(better) given delta
    variance = examples * np.maximum(2 * likeliest + delta * (1 - delta), 0)
    excess = worse - better - examples * delta
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(excess == 0, 0.0, excess / np.sqrt(variance))


def drop_upper(
    worse: Array | int, better: Array | int, *, examples: int, confidence: float = 0.95
) -> Array:
    """One-sided upper bound of P(worse) - P(better).

    Args:
        worse: Flips from 1 to 0, any shape.
        better: Flips from 0 to 1, same shape.
        examples: Number n of pairs, at least 1.
        confidence: One-sided, in (0.5, 1).

    Returns:
        Same shape, in (0, 1], never below the zero-flip bound ``1 - alpha**(1/n)``.

    Raises:
        InputError: A confidence outside its range, or no examples.
    """
    floor = zero_flip_bound(examples, confidence)
    bound: Array = np.maximum(
        _invert(worse, better, examples=examples, confidence=confidence), floor
    )
    return bound


def drop_lower(
    worse: Array | int, better: Array | int, *, examples: int, confidence: float = 0.95
) -> Array:
    """One-sided lower bound of P(worse) - P(better), in [-1, 1); see `drop_upper`."""
    return -_invert(better, worse, examples=examples, confidence=confidence)


def _invert(worse: Array | int, better: Array | int, *, examples: int, confidence: float) -> Array:
    """The largest difference the score test does not reject; exact without better flips."""
    check_confidence(confidence)
    if examples < 1:
        raise InputError("no examples: nothing can be bounded", "give at least one")
    worse, better = np.broadcast_arrays(np.asarray(worse, float), np.asarray(better, float))
    quantile = ndtri(confidence)
    low, high = (worse - better) / examples, np.ones(worse.shape)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        inside = score_statistic(worse, better, middle, examples=examples) >= -quantile
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    binomial = betaincinv(worse + 1, np.maximum(examples - worse, 1e-9), confidence)
    binomial = np.where(worse < examples, binomial, 1.0)
    return np.where(better == 0, np.maximum(high, binomial), high)
