"""Does "proved" keep its promise? Draws from a real flip table with the margin at its true drop.

`tests/data/flip_table.npz` holds what a real network and its 3-bit copy answered on 10,000 images
(`tests/data/make_flip_table.py`). A drop that equals the limit must be "proved" in 5 % of all proof
sets at most; 5.5 % is asked for with 10,000 draws. The bootstrap is slower, so fewer draws are
taken and the allowance is what chance leaves: 5 % plus three standard errors of the binomial.
"""

from pathlib import Path

import numpy as np
import pytest

from lilliput.metrics import F1, Metric, SquaredError
from lilliput.proportions import drop_lower, drop_upper, zero_flip_bound
from lilliput.statistics import drop_bound, relative_drop_bound

POPULATION = np.load(Path(__file__).parent / "data" / "flip_table.npz")


def flip_shares() -> np.ndarray:
    """Shares of (worse, better, unchanged) among the 10,000."""
    before = POPULATION["original"] == POPULATION["label"]
    after = POPULATION["artifact"] == POPULATION["label"]
    worse, better = (before & ~after).mean(), (~before & after).mean()
    return np.array([worse, better, 1 - worse - better])


def test_the_population_is_a_real_pair() -> None:
    worse, better, _ = flip_shares()
    assert 0.03 < worse + better < 0.15
    assert 0.003 < worse - better < 0.03


@pytest.mark.parametrize("confidence", [0.95, 0.975])
@pytest.mark.parametrize("examples", [300, 1500, 6800])
def test_score_bound(examples: int, confidence: float) -> None:
    shares = flip_shares()
    true_drop = shares[0] - shares[1]
    draws = np.random.default_rng(examples).multinomial(examples, shares, 10_000)
    proved = (
        drop_upper(draws[:, 0], draws[:, 1], examples=examples, confidence=confidence) <= true_drop
    )
    missed = (
        drop_lower(draws[:, 0], draws[:, 1], examples=examples, confidence=confidence) > true_drop
    )
    assert proved.mean() <= 1.1 * (1 - confidence)
    assert missed.mean() <= 1.2 * (1 - confidence)  # small samples: 0.0285 at 300 and 0.975
    if zero_flip_bound(examples, confidence) < true_drop:  # otherwise nothing can be proved
        assert proved.mean() >= 0.7 * (1 - confidence)  # not careful by proving nothing


def test_score_bound_against_the_original_itself() -> None:
    """Agreement: flips go one way only, where the plain score bound would be too bold."""
    share = float((POPULATION["original"] != POPULATION["artifact"]).mean())
    for examples in (100, 300, 1500):
        worse = np.random.default_rng(examples).binomial(examples, share, 10_000)
        assert (drop_upper(worse, 0, examples=examples) <= share).mean() <= 0.055


def squared_error_rows(name: str) -> np.ndarray:
    """Brier scores, (N, 1)."""
    return POPULATION[f"{name}_error"].astype(float)[:, None]


def f1_rows(name: str) -> np.ndarray:
    """Counts of `metrics.F1` for class 6 against the rest, (N, 6)."""
    answer = np.eye(2)[(POPULATION[name] == 6).astype(int)]
    truth = np.eye(2)[(POPULATION["label"] == 6).astype(int)]
    return np.concatenate([answer * truth, answer * (1 - truth), (1 - answer) * truth], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "rows", "relative", "examples", "draws"),
    [
        (SquaredError(), squared_error_rows, True, 300, 400),
        (SquaredError(), squared_error_rows, False, 1500, 80),
        (F1(), f1_rows, False, 600, 60),
    ],
    ids=["relative squared error", "squared error", "f1"],
)
def test_bootstrap(metric: Metric, rows, relative: bool, examples: int, draws: int) -> None:
    original, artifact = rows("original"), rows("artifact")
    sign = 1 if metric.higher_is_better else -1
    true_drop = sign * (metric.aggregate(original) - metric.aggregate(artifact))
    true_drop /= metric.aggregate(original) if relative else 1
    rng, bounded = np.random.default_rng(7), relative_drop_bound if relative else drop_bound
    proved = missed = 0
    for seed in range(draws):
        drawn = rng.integers(0, len(original), examples)
        bound = bounded(original[drawn], artifact[drawn], metric, seed=seed)
        assert bound.method == "bootstrap" or bound.flips < 20
        proved += bound.upper <= true_drop
        missed += bound.lower > true_drop
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert proved / draws <= allowed
    assert missed / draws <= allowed
