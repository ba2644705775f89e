"""The forecast: whether a number of proof examples can prove a claim at all.

For 0/1 scores everything is summed exactly over the two kinds of flips, without simulation: better
flips are binomial, and for each number of them there is a largest number of worse flips that still
proves the claim.
"""

import math

import numpy as np
from scipy.special import bdtr, ndtri

from lilliput.errors import InputError
from lilliput.proportions import check_confidence, drop_upper, score_statistic, zero_flip_bound

FLIP_RATES = (0.05, 0.08)  # measured on real models near their limit
_MOST_EXAMPLES = 10_000_000
_NEGLIGIBLE = 1e-9


def smallest_provable_drop(examples: int, confidence: float = 0.95) -> float:
    """The bound if not one answer flips, 1 - alpha**(1/n): nothing smaller can be proved."""
    return zero_flip_bound(examples, confidence)


def proof_power(
    examples: int,
    *,
    limit: float,
    flip_rates: tuple[float, ...] = FLIP_RATES,
    true_drop: float = 0.0,
    confidence: float = 0.95,
) -> tuple[float, ...]:
    """Probability that a drop of at most `limit` will be proved, for 0/1 scores.

    Args:
        examples: Number of proof examples.
        limit: Allowed drop in (0, 1), e.g. 0.01 for one point.
        flip_rates: Shares of answers that flip either way, each at least `true_drop`.
        true_drop: The artifact's real drop.
        confidence: One-sided, in (0.5, 1).

    Returns:
        One probability per flip rate.

    Raises:
        InputError: A flip rate, drop or confidence outside its range.
    """
    check_confidence(confidence)
    if not 0 < limit < 1 or any(not abs(true_drop) <= rate <= 1 for rate in flip_rates):
        raise InputError(
            "a forecast needs a limit in (0, 1) and flip rates of at least the true drop"
        )
    if limit < zero_flip_bound(examples, confidence):
        return tuple(0.0 for _ in flip_rates)
    return tuple(
        _power(examples, limit, rate=rate, true_drop=true_drop, confidence=confidence)
        for rate in flip_rates
    )


def examples_needed(
    limit: float,
    *,
    power: float = 0.8,
    flip_rate: float = FLIP_RATES[-1],
    true_drop: float = 0.0,
    confidence: float = 0.95,
) -> int | None:
    """Proof examples needed to prove a drop of at most `limit` with probability `power`.

    Returns:
        The number within about 1 %, or None when no number would do (the true drop is not below
        the limit, or it would take more than ten million).
    """
    if true_drop >= limit:
        return None
    low, high = 1, _MOST_EXAMPLES
    settings = {"limit": limit, "true_drop": true_drop, "confidence": confidence}
    if proof_power(high, flip_rates=(flip_rate,), **settings)[0] < power:
        return None
    while high > low + max(1, low // 128):
        middle = math.isqrt(low * high) if low * 2 < high else (low + high) // 2
        enough = proof_power(middle, flip_rates=(flip_rate,), **settings)[0] >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _power(
    examples: int, limit: float, *, rate: float, true_drop: float, confidence: float
) -> float:
    worse, better = (rate + true_drop) / 2, (rate - true_drop) / 2
    counts = _likely_counts(examples, better)
    cutoffs = _cutoffs(examples, limit, better=counts, confidence=confidence)
    weights = _cumulated(counts, examples, better) - _cumulated(counts - 1, examples, better)
    proved = _cumulated(cutoffs, examples - counts, worse / (1 - better) if better < 1 else 0.0)
    return float(np.clip((weights * proved).sum(), 0, 1))


def _likely_counts(examples: int, share: float) -> np.ndarray:
    """All counts of a binomial but its negligible tails."""
    spread = -ndtri(_NEGLIGIBLE) * math.sqrt(examples * share * (1 - share)) + 25
    low, high = examples * share - spread, examples * share + spread
    return np.arange(max(0, math.floor(low)), min(examples, math.ceil(high)) + 1)


def _cumulated(counts: np.ndarray, examples: np.ndarray | int, share: float) -> np.ndarray:
    """P(binomial <= counts), 0 below zero."""
    inside = np.clip(counts, 0, examples).astype(float)
    return np.where(counts < 0, 0.0, bdtr(inside, examples, share))


def _cutoffs(examples: int, limit: float, *, better: np.ndarray, confidence: float) -> np.ndarray:
    """The most worse flips at which the claim is still proved, -1 for none, per better flips."""
    low, high = np.full(better.shape, -1), examples - better
    while np.any(low < high):
        middle = (low + high + 1) // 2
        statistic = score_statistic(middle, better, np.full(better.shape, limit), examples=examples)
        proved = statistic <= -ndtri(confidence)
        low, high = np.where(proved, middle, low), np.where(proved, high, middle - 1)
    while (
        better[0] == 0
        and low[0] >= 0
        and drop_upper(low[0], 0, examples=examples, confidence=confidence) > limit
    ):
        low[0] -= 1
    return low
