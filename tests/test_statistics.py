"""The bound on the drop of any metric, and of paired ratios."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lilliput.bootstrap import Pair, depends_on_means
from lilliput.errors import InputError, TaskError
from lilliput.metrics import F1, Accuracy, Agreement, Perplexity, SquaredError
from lilliput.proportions import drop_lower, drop_upper, zero_flip_bound
from lilliput.statistics import drop_bound, ratio_bound, relative_drop_bound

RNG = np.random.default_rng(5)
NORMAL = RNG.normal(size=(400, 1)) ** 2
WORSE = NORMAL + 0.1 + 0.2 * RNG.normal(size=(400, 1))


@dataclass(frozen=True)
class ErrorRate:
    """0/1 where lower is better."""

    name: str = "error"
    higher_is_better: bool = False
    range: tuple[float, float] = (0.0, 1.0)
    reference: str = "targets"

    def rows(self, outputs: object, targets: object) -> np.ndarray:
        raise NotImplementedError

    def aggregate(self, rows: np.ndarray) -> float:
        return float(rows.mean())


@dataclass(frozen=True)
class TrimmedError(ErrorRate):
    """A score that does not follow from the column means."""

    range: tuple[float, float] = (0.0, math.inf)

    def aggregate(self, rows: np.ndarray) -> float:
        return float(np.sort(rows[:, 0])[len(rows) // 10 : len(rows) - len(rows) // 10].mean())


class SetError(TrimmedError):
    """A score that is not defined for a single example, like an area under a curve."""

    def aggregate(self, rows: np.ndarray) -> float:
        if len(rows) < 2:
            raise ValueError("one example has no such score")
        return super().aggregate(rows)


def zeros_and_ones(worse: int, better: int, both: int, neither: int) -> tuple[np.ndarray, ...]:
    before = np.repeat([1.0, 0.0, 1.0, 0.0], [worse, better, both, neither])
    after = np.repeat([0.0, 1.0, 1.0, 0.0], [worse, better, both, neither])
    return before[:, None], after[:, None]


def test_zero_one_scores_get_the_score_bound() -> None:
    before, after = zeros_and_ones(12, 5, 400, 83)
    bound = drop_bound(before, after, Accuracy())
    assert bound.method == "score"
    assert bound.estimate == pytest.approx(7 / 500)
    assert bound.upper == float(drop_upper(12, 5, examples=500))
    assert bound.lower == float(drop_lower(12, 5, examples=500))
    assert (bound.flips, bound.examples, bound.groups) == (17, 500, 500)


def test_lower_is_better_turns_the_sign() -> None:
    before, after = zeros_and_ones(12, 5, 400, 83)
    assert drop_bound(before, after, ErrorRate()).estimate == pytest.approx(-7 / 500)
    assert drop_bound(after, before, ErrorRate()).upper == float(drop_upper(5 + 7, 5, examples=500))


def test_five_identical_answers_prove_nothing() -> None:
    bound = drop_bound(np.ones((5, 1)), np.ones((5, 1)), Agreement())
    assert bound.upper == pytest.approx(1 - 0.05**0.2)


def test_an_answer_that_is_no_number_counts_as_wrong() -> None:
    before, after = zeros_and_ones(0, 0, 200, 0)
    after[3] = np.nan
    bound = drop_bound(before, after, Accuracy())
    assert (bound.flips, bound.upper) == (1, float(drop_upper(1, 0, examples=200)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_without_a_worst_value_it_cannot_be_bounded(bad: float) -> None:
    after = WORSE.copy()
    after[7] = bad
    bound = drop_bound(NORMAL, after, SquaredError())
    assert bound.upper == math.inf
    assert (bound.estimate, bound.method) == (None, "none")
    assert "1 answers are no numbers" in bound.reason


def test_means_get_a_bootstrap_near_students_bound() -> None:
    bound = drop_bound(NORMAL, WORSE, SquaredError(), confidence=0.975)
    difference = (WORSE - NORMAL)[:, 0]
    interval = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert bound.method == "bootstrap"
    assert bound.estimate == pytest.approx(difference.mean())
    assert bound.upper == pytest.approx(interval.high, abs=0.002)
    assert bound.lower == pytest.approx(interval.low, abs=0.002)


def test_relative_divides_by_the_original() -> None:
    bound = relative_drop_bound(NORMAL, WORSE, SquaredError())
    assert bound.estimate == pytest.approx(WORSE.mean() / NORMAL.mean() - 1)
    assert bound.lower < bound.estimate < bound.upper
    doubled = relative_drop_bound(2 * NORMAL, 2 * WORSE, SquaredError())
    assert doubled.upper == pytest.approx(bound.upper)


def test_relative_to_zero_has_no_meaning() -> None:
    bound = relative_drop_bound(np.zeros((200, 1)), WORSE[:200], SquaredError())
    assert (bound.upper, bound.method) == (None, "none")
    assert "is zero" in bound.reason


def test_groups_widen_the_bound() -> None:
    groups = np.arange(2000) // 4
    effect = RNG.normal(size=500)[groups][:, None] * 0.3
    before = RNG.normal(size=(2000, 1)) ** 2
    alone = drop_bound(before, before + effect, SquaredError())
    grouped = drop_bound(before, before + effect, SquaredError(), groups=groups)
    assert grouped.groups == 500
    ratio = (grouped.upper - grouped.estimate) / (alone.upper - alone.estimate)
    assert ratio == pytest.approx(2, rel=0.15)  # four copies count once: sqrt(4)


def test_grouped_zero_one_scores_are_resampled_by_group() -> None:
    before, after = zeros_and_ones(40, 25, 500, 235)
    bound = drop_bound(before, after, Accuracy(), groups=np.arange(800) % 400)
    assert (bound.method, bound.groups) == ("bootstrap", 400)
    assert bound.upper >= zero_flip_bound(400)


def test_hardly_any_change_is_bounded_by_the_share_of_changed_groups() -> None:
    before, after = zeros_and_ones(1, 0, 500, 99)
    bound = drop_bound(before, after, Accuracy(), groups=np.arange(600) // 2)
    assert bound.method == "exact"
    assert bound.upper == pytest.approx(float(drop_upper(1, 0, examples=300)))


def test_no_change_of_an_unbounded_metric_is_no_proof() -> None:
    bound = drop_bound(NORMAL, NORMAL, SquaredError())
    assert (bound.estimate, bound.upper) == (0, None)
    assert "could lose any amount" in bound.reason


def test_fewer_than_a_hundred_groups_have_no_bound() -> None:
    bound = drop_bound(NORMAL[:99], WORSE[:99], SquaredError())
    assert (bound.method, bound.lower, bound.upper) == ("none", None, None)
    assert "99 independent examples are too few" in bound.reason


def test_same_seed_same_bound() -> None:
    first, again, other = (drop_bound(NORMAL, WORSE, SquaredError(), seed=s) for s in (3, 3, 4))
    assert first == again
    assert first.upper != other.upper


def test_aggregates_of_means_are_recognised() -> None:
    counts = np.column_stack([RNG.gamma(2, size=300), RNG.integers(1, 9, 300)])
    assert depends_on_means(Perplexity(), counts)
    assert depends_on_means(F1(), np.eye(6)[RNG.integers(0, 6, 300)])
    assert not depends_on_means(TrimmedError(), NORMAL)


def test_both_ways_of_scoring_agree() -> None:
    """The fast way (column means) and the general way (rows) on the same resamples."""
    rows, labels = RNG.random((60, 1)), np.arange(60) // 2
    pair = Pair(rows, rows, SquaredError(), labels)
    fast, general = pair.scores(rows), Pair(rows, rows, TrimmedError(), labels).scores(rows)
    counts = RNG.integers(0, 3, (5, 30)).astype(float)
    means = [np.repeat(rows, row[labels].astype(int), axis=0).mean() for row in counts]
    trims = [
        TrimmedError().aggregate(np.repeat(rows, row[labels].astype(int), 0)) for row in counts
    ]
    assert fast.resampled(counts) == pytest.approx(means)
    assert general.resampled(counts) == pytest.approx(trims)
    assert fast.left_out()[3] == pytest.approx(np.delete(rows, [6, 7]).mean())


def test_a_score_of_rows_is_bounded_too() -> None:
    bound = drop_bound(NORMAL[:150], WORSE[:150], TrimmedError())
    assert bound.method == "bootstrap"
    assert bound.lower < bound.estimate < bound.upper < bound.estimate + 0.1


def test_a_score_of_sets_only_is_bounded_too() -> None:
    bound = drop_bound(NORMAL[:150], WORSE[:150], SetError())
    assert bound == drop_bound(NORMAL[:150], WORSE[:150], TrimmedError())


def test_equal_changes_leave_no_spread() -> None:
    bound = relative_drop_bound(NORMAL + 1, 1.02 * (NORMAL + 1), SquaredError())
    assert (bound.lower, bound.estimate, bound.upper) == pytest.approx((0.02, 0.02, 0.02), abs=1e-6)


def test_many_looks_take_more_resamples() -> None:
    usual = drop_bound(NORMAL, WORSE, SquaredError())
    tenth = drop_bound(NORMAL, WORSE, SquaredError(), confidence=1 - 0.05 / 110)
    gap = (tenth.upper - tenth.estimate) / (usual.upper - usual.estimate)
    assert gap == pytest.approx(stats.norm.ppf(1 - 0.05 / 110) / stats.norm.ppf(0.95), rel=0.1)


@pytest.mark.parametrize(
    ("before", "after", "groups", "text"),
    [
        (NORMAL, NORMAL[:9], None, "do not match"),
        (NORMAL[:, 0], NORMAL[:, 0], None, "do not match"),
        (NORMAL, NORMAL, np.arange(3), "groups for 400 examples"),
    ],
)
def test_rows_must_fit(before, after, groups, text: str) -> None:
    with pytest.raises(TaskError, match=text):
        drop_bound(before, after, SquaredError(), groups=groups)


def test_no_examples_at_all() -> None:
    bound = drop_bound(np.ones((0, 1)), np.ones((0, 1)), Accuracy())
    assert (bound.upper, bound.reason) == (None, "there are no examples")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60))
def test_ratio_bounds_enclose_the_median(ratios: list[float]) -> None:
    median, lower, upper = ratio_bound(ratios)
    assert lower <= median <= upper
    assert median == pytest.approx(float(np.median(ratios)))
    assert math.isinf(upper) == (len(ratios) < 5) == (lower == 0)


def test_ratio_bounds_cover() -> None:
    draws = np.exp(np.random.default_rng(2).standard_t(2, (4000, 21)))  # heavy tails, median 1
    bounds = np.array([ratio_bound(row) for row in draws])
    assert 0.02 < (bounds[:, 2] < 1).mean() <= 0.055
    assert 0.02 < (bounds[:, 1] > 1).mean() <= 0.055


def test_one_disturbed_round_hardly_moves_the_bound() -> None:
    calm = np.linspace(0.48, 0.52, 20)
    disturbed = np.append(calm[:-1], 30.0)
    assert ratio_bound(disturbed)[2] == pytest.approx(ratio_bound(calm)[2], abs=0.01)


@pytest.mark.parametrize("ratios", [[], [1.0, 0.0], [1.0, float("nan")]])
def test_ratios_must_be_positive_numbers(ratios: list[float]) -> None:
    with pytest.raises(InputError, match="positive numbers"):
        ratio_bound(ratios)
