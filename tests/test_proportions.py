"""The bound of paired 0/1 scores, against independent formulas and by exact summation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from lilliput.errors import InputError
from lilliput.proportions import drop_lower, drop_upper, score_statistic, zero_flip_bound


def constrained_likelihood(worse: int, better: int, examples: int, delta: float) -> float:
    """P(better) that maximises the trinomial likelihood under P(worse) = P(better) + delta."""

    def loss(share: float) -> float:
        rest = 1 - 2 * share - delta
        parts = ((worse, share + delta), (better, share), (examples - worse - better, rest))
        return -sum(count * np.log(max(p, 1e-300)) for count, p in parts)

    low, high = max(0.0, -delta), (1 - delta) / 2
    found = optimize.minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    )
    return float(found.x)


def bound_by_root(worse: int, better: int, examples: int, confidence: float) -> float:
    """Tango's upper bound by a numeric likelihood and scipy's root finder."""
    quantile = stats.norm.ppf(confidence)

    def excess(delta: float) -> float:
        share = constrained_likelihood(worse, better, examples, delta)
        variance = examples * (2 * share + delta - delta**2)
        return (worse - better - examples * delta) + quantile * np.sqrt(max(variance, 0))

    return float(optimize.brentq(excess, (worse - better) / examples + 1e-9, 1 - 1e-9, xtol=1e-10))


@pytest.mark.parametrize("confidence", [0.95, 0.975, 0.9917])
@pytest.mark.parametrize(
    ("worse", "better", "examples"),
    [(5, 3, 120), (20, 22, 300), (60, 41, 1500), (170, 170, 6800), (3, 30, 200), (90, 5, 100)],
)
def test_agrees_with_a_numeric_likelihood(
    worse: int, better: int, examples: int, confidence: float
) -> None:
    expected = bound_by_root(worse, better, examples, confidence)
    expected = max(expected, 1 - (1 - confidence) ** (1 / examples))
    assert drop_upper(worse, better, examples=examples, confidence=confidence) == pytest.approx(
        expected, abs=2e-6
    )


def test_agrees_with_the_published_example() -> None:
    # airway reactivity before and after transplantation, 21 pairs, flips 1 and 7: Tango's
    # two-sided 95 % interval is -0.517 to -0.026 (Fagerland et al., Statistics in Medicine 2014)
    assert -drop_upper(7, 1, examples=21, confidence=0.975) == pytest.approx(-0.517, abs=5e-4)
    assert drop_lower(7, 1, examples=21, confidence=0.975) == pytest.approx(0.026, abs=5e-4)


def test_no_flips_is_the_zero_flip_bound() -> None:
    for examples in (5, 300, 6800):
        expected = 1 - 0.05 ** (1 / examples)
        assert drop_upper(0, 0, examples=examples) == pytest.approx(expected, rel=1e-12)
        assert drop_lower(0, 0, examples=examples) == pytest.approx(-expected, rel=1e-9)
        assert zero_flip_bound(examples) == pytest.approx(expected, rel=1e-12)


def test_one_sided_flips_are_at_least_the_exact_binomial_bound() -> None:
    exact = stats.binomtest(7, 500, alternative="less").proportion_ci(0.95, method="exact").high
    assert drop_upper(7, 0, examples=500) >= exact - 1e-12


def test_all_or_nothing_stays_inside() -> None:
    assert drop_upper(100, 0, examples=100) == 1.0
    assert drop_lower(100, 0, examples=100) > 0.9
    assert drop_upper(0, 100, examples=100) == pytest.approx(zero_flip_bound(100))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5000), st.data())
def test_bounds_are_ordered_and_monotone(examples: int, data: st.DataObject) -> None:
    worse = data.draw(st.integers(0, examples - 1))
    better = data.draw(st.integers(0, examples - 1 - worse))
    upper, lower = (
        drop_upper(worse, better, examples=examples),
        drop_lower(worse, better, examples=examples),
    )
    assert -1 <= lower <= (worse - better) / examples <= upper <= 1
    assert upper >= zero_flip_bound(examples)
    assert drop_upper(worse + 1, better, examples=examples) >= upper - 1e-12
    assert drop_upper(worse, better, examples=examples, confidence=0.99) >= upper - 1e-12


@pytest.mark.parametrize("confidence", [0.95, 0.975])
@pytest.mark.parametrize("examples", [100, 300, 1500])
def test_exact_size_never_exceeds_five_and_a_half_percent(examples: int, confidence: float) -> None:
    """P(proved | true drop = margin), summed over all outcomes, at the worst nuisance rate."""
    counts = np.arange(examples + 1)
    worst = 0.0
    for margin in (zero_flip_bound(examples, confidence) * 1.001, 0.02, 0.033, 0.06):
        if margin < zero_flip_bound(examples, confidence):
            continue
        better = counts[: int(examples * 0.35)]
        cutoffs = last_proofs(better, examples, margin, confidence)
        for share in (0.0, 1e-4, 1e-3, 0.004, 0.01, 0.02, 0.04, 0.08, 0.15):
            given_better = stats.binom.cdf(
                cutoffs, examples - better, (share + margin) / (1 - share)
            )
            proved = (stats.binom.pmf(better, examples, share) * given_better).sum()
            worst = max(worst, float(proved))
    assert worst <= 1.1 * (1 - confidence)
    assert worst >= 0.8 * (1 - confidence)  # and it is not a bound that proves nothing


def last_proofs(better: np.ndarray, examples: int, margin: float, level: float) -> np.ndarray:
    """The most worse flips that still prove, by asking the bound itself; -1 for none."""
    low, high = np.full(better.shape, -1), examples - better
    while np.any(low < high):
        middle = (low + high + 1) // 2
        proved = drop_upper(middle, better, examples=examples, confidence=level) <= margin
        low, high = np.where(proved, middle, low), np.where(proved, high, middle - 1)
    return low


def test_statistic_is_zero_at_the_estimate_and_falls() -> None:
    deltas = np.array([0.02, 0.05, 0.1])
    values = score_statistic(np.full(3, 30.0), np.full(3, 10.0), deltas, examples=1000)
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize("confidence", [0.5, 1.0, 95, float("nan")])
def test_refuses_nonsense_confidence(confidence: float) -> None:
    with pytest.raises(InputError, match=r"not between 0.5 and 1"):
        drop_upper(1, 1, examples=100, confidence=confidence)


def test_refuses_no_examples() -> None:
    with pytest.raises(InputError, match="nothing can be bounded"):
        drop_upper(0, 0, examples=0)
