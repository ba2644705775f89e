"""Studentized bootstrap over groups for the drop of any metric.

Resamples whole groups with replacement and studentizes every resampled drop by its own standard
error (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12.5; one-sided
bounds are second-order accurate for means, P. Hall, Annals of Statistics 16, 1988). The standard
error comes from each group's influence on both scores, by leaving it out once (jackknife); how the
drop depends on the two scores is followed exactly in every resample.

Most aggregates (a mean, a perplexity, an F1 from counts) depend on the column means alone. That is
checked on the data, and then a resample costs one row of a matrix product.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lilliput.metrics import Metric

RESAMPLES = 2000
_MOST_RESAMPLES = 40_000
_ROUNDING = 1e-9  # a standard error below this share of the scores is rounding noise
_CHUNK = 2_000_000  # counts held at once


@dataclass(frozen=True)
class Pair:
    """Rows of original and artifact on the same examples.

    Attributes:
        original: (N, k) finite.
        artifact: (N, k) finite.
        metric: How rows aggregate.
        labels: Group of each example, (N,) int in [0, G), every group present.
        relative: Whether the drop is divided by the original's score.
    """

    original: np.ndarray
    artifact: np.ndarray
    metric: Metric
    labels: np.ndarray
    relative: bool = False

    def estimate(self) -> float:
        """The drop on all examples; NaN or infinite when the original's score is zero."""
        return float(self.worsening(*self.both())[0])

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores of original and artifact on all examples, (1,) each."""
        before, after = self.metric.aggregate(self.original), self.metric.aggregate(self.artifact)
        return np.array([before]), np.array([after])

    def worsening(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Signed worsening of scores, same shapes."""
        change: np.ndarray = before - after if self.metric.higher_is_better else after - before
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled: np.ndarray = change / (np.abs(before) if self.relative else 1.0)
        return scaled

    def scale(self) -> float:
        """Size of the numbers whose difference the drop is, in its unit."""
        before, after = (abs(float(score[0])) for score in self.both())
        return max(before, after) / (before if self.relative else 1.0)

    def slopes(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the worsening by the original's and by the artifact's score."""
        sign = 1.0 if self.metric.higher_is_better else -1.0
        if not self.relative:
            return np.full(before.shape, sign), np.full(after.shape, -sign)
        with np.errstate(divide="ignore", invalid="ignore"):
            return sign * after / (before * np.abs(before)), -sign / np.abs(before)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Examples per group, (G,)."""
        return np.bincount(self.labels)

    def changed_groups(self) -> int:
        """Groups with at least one row that differs."""
        changed = (self.original != self.artifact).any(1)
        return int(np.unique(self.labels[changed]).size)

    def largest_group(self) -> int:
        """Examples of the largest group."""
        return int(self.sizes.max())

    def scores(self, rows: np.ndarray) -> _Scores:
        """The fast way to score resamples of `rows` where it is right, otherwise the general."""
        if depends_on_means(self.metric, rows):
            sums = np.stack(
                [np.bincount(self.labels, column, len(self.sizes)) for column in rows.T], axis=1
            )  # (G, k)
            return _MeanScores(self.metric, sums, self.sizes)
        return _RowScores(self.metric, rows, self.labels, len(self.sizes))


def studentized_bounds(pair: Pair, confidence: float, *, seed: int) -> tuple[float, float]:
    """One-sided lower and upper bound of the drop.

    Args:
        pair: At least two groups, of which several changed.
        confidence: Of each bound, in (0.5, 1).
        seed: Of the generator.

    Returns:
        (lower, upper); infinite when `confidence` is too high to be resampled.
    """
    rng = np.random.default_rng(seed)
    files = pair.scores(pair.original), pair.scores(pair.artifact)
    estimate, groups = pair.estimate(), len(pair.sizes)
    products = _influence_products(*(scores.left_out() for scores in files))  # (G, 5)
    least = _ROUNDING * pair.scale()
    resamples = min(max(RESAMPLES, math.ceil(20 / (1 - confidence))), _MOST_RESAMPLES)
    deviations = []
    for counts in _resampled_counts(groups, resamples, rng):
        before, after = (scores.resampled(counts) for scores in files)
        errors = _standard_errors(pair.slopes(before, after), counts @ products, groups)
        with np.errstate(divide="ignore", invalid="ignore"):
            deviations.append((pair.worsening(before, after) - estimate) / np.fmax(errors, least))
    error = _standard_errors(pair.slopes(*pair.both()), products.sum(0, keepdims=True), groups)[0]
    ordered = np.sort(np.nan_to_num(np.concatenate(deviations), nan=0.0))
    rank = math.floor((1 - confidence) * (resamples + 1) + 1e-9)
    if rank < 1:
        return -math.inf, math.inf
    return estimate - float(ordered[-rank]) * error, estimate - float(ordered[rank - 1]) * error


def _influence_products(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Influences b, a of each group on the two scores as b, a, b b, b a, a a, (G, 5).

    Args:
        before: Scores of the original without each group, (G,).
        after: Scores of the artifact without each group, (G,).
    """
    b, a = ((len(left) - 1) * (left.mean() - left) for left in (before, after))
    return np.stack([b, a, b * b, b * a, a * a], axis=1)


def _standard_errors(
    slopes: tuple[np.ndarray, np.ndarray], sums: np.ndarray, groups: int
) -> np.ndarray:
    """Standard error of the drop in each resample by the delta method.

    Args:
        slopes: Derivatives of the drop by both scores, (B,) each.
        sums: Sums over the resample of `_influence_products`, (B, 5).
        groups: Groups per resample.
    """
    by_before, by_after = slopes
    b, a, bb, ba, aa = (sums / groups).T
    means = by_before * b + by_after * a
    squares = by_before**2 * bb + 2 * by_before * by_after * ba + by_after**2 * aa
    errors: np.ndarray = np.sqrt(np.maximum(squares - means**2, 0) / groups)
    return errors


def depends_on_means(metric: Metric, rows: np.ndarray) -> bool:
    """Whether the aggregate of `rows` (N, k) follows from its column means alone.

    Tried on all rows, both halves and a third of them: one row of means must score the same.
    """
    half = max(1, len(rows) // 2)
    parts = (rows, rows[:half], rows[-half:], rows[::3], np.repeat(rows[:half], 2, axis=0))
    for part in parts:
        whole = metric.aggregate(part)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                single = metric.aggregate(part.mean(0, keepdims=True))
        except (ValueError, ArithmeticError, IndexError):  # a metric that is defined for sets only
            return False
        if not math.isclose(whole, single, rel_tol=1e-9, abs_tol=1e-12):
            return False
    return True


@dataclass(frozen=True)
class _MeanScores:
    """Scores that follow from column means: sums (G, k) and sizes (G,) of the groups suffice."""

    metric: Metric
    sums: np.ndarray
    sizes: np.ndarray

    def resampled(self, counts: np.ndarray) -> np.ndarray:
        """Scores of resamples that hold group g counts[b, g] times, (B, G) -> (B,)."""
        return self._aggregate((counts @ self.sums) / (counts @ self.sizes)[:, None])

    def left_out(self) -> np.ndarray:
        """Score without each group, (G,)."""
        rest = self.sizes.sum() - self.sizes
        return self._aggregate((self.sums.sum(0) - self.sums) / rest[:, None])

    def _aggregate(self, means: np.ndarray) -> np.ndarray:
        if means.shape[1] == 1 and self._is_plain_mean(means):
            return means[:, 0]
        return np.array([self.metric.aggregate(row[None]) for row in means])

    def _is_plain_mean(self, means: np.ndarray) -> bool:
        """Whether the score of one row is that row, tried on the smallest, middle and largest."""
        tried = np.quantile(means, (0, 0.3, 1))
        return all(self.metric.aggregate(np.array([[x]])) == x for x in tried)


@dataclass(frozen=True)
class _RowScores:
    """Scores that need the rows themselves."""

    metric: Metric
    rows: np.ndarray
    labels: np.ndarray
    groups: int

    def resampled(self, counts: np.ndarray) -> np.ndarray:
        """Scores of resamples that hold group g counts[b, g] times, (B, G) -> (B,)."""
        times = counts.astype(np.int64)
        return np.array(
            [self.metric.aggregate(np.repeat(self.rows, row[self.labels], axis=0)) for row in times]
        )

    def left_out(self) -> np.ndarray:
        """Score without each group, (G,)."""
        return np.array(
            [self.metric.aggregate(self.rows[self.labels != g]) for g in range(self.groups)]
        )


_Scores = _MeanScores | _RowScores


def _resampled_counts(
    groups: int, resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """How often each group is drawn, in chunks (B, G) float64."""
    chunk = max(1, _CHUNK // groups)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(0, groups, (size, groups)) + groups * np.arange(size)[:, None]
        yield (
            np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups).astype(float)
        )
