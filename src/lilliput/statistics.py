"""How much worse the artifact may be: one-sided bounds of paired scores, and of paired ratios.

The bound of the drop is chosen by the data:

==========================================  ===========================================
rows of both files                          bound
==========================================  ===========================================
one column of 0 and 1, no groups            Tango's score bound (`lilliput.proportions`)
anything else, 100 or more groups           studentized bootstrap (`lilliput.bootstrap`)
anything else, hardly any group changed     binomial share of changed groups x the range
fewer than 100 groups, or no worst value    none: unproved, with the reason
==========================================  ===========================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr

from lilliput import bootstrap, proportions
from lilliput.errors import InputError, TaskError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lilliput.metrics import Metric

MIN_GROUPS = 100
FEW_CHANGED = 20  # below this many changed groups a bootstrap has nothing to resample


@dataclass(frozen=True)
class Bound:
    """Signed worsening of a score, with one-sided bounds.

    Attributes:
        estimate: original - artifact where higher is better, artifact - original where lower is;
            divided by the original's score if relative. None when a score is not a number.
        lower: One-sided lower bound at `confidence`; None when none could be stated.
        upper: One-sided upper bound at `confidence`; None when none could be stated, infinite
            when answers that are no numbers make the drop unbounded.
        confidence: One-sided, e.g. 0.95.
        method: ``score`` (Tango), ``bootstrap``, ``exact`` (binomial) or ``none``.
        examples: Number of examples.
        groups: Number of independent groups among them.
        flips: Examples whose row changed.
        reason: Why no bound could be stated; empty otherwise.
    """

    estimate: float | None
    lower: float | None
    upper: float | None
    confidence: float
    method: str
    examples: int
    groups: int
    flips: int
    reason: str = ""


def drop_bound(
    original: np.ndarray,
    artifact: np.ndarray,
    metric: Metric,
    *,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bound:
    """Bounds how much worse the artifact scores than the original, paired by example.

    Args:
        original: Metric rows of the original, (N, k).
        artifact: Metric rows of the artifact on the same examples, (N, k).
        metric: Says how rows aggregate and which direction is better.
        groups: Group of each example, (N,); None when all examples are independent.
        confidence: One-sided, in (0.5, 1).
        seed: Seed of the bootstrap's generator.

    Returns:
        The bound in the metric's unit; a row with a value that is no number counts as its worst.

    Raises:
        TaskError: Rows or groups whose shapes do not fit together.
        InputError: A confidence outside its range.
    """
    pair = _paired(original, artifact, metric, groups=groups, relative=False)
    return _bound(pair, confidence=confidence, seed=seed)


def relative_drop_bound(
    original: np.ndarray,
    artifact: np.ndarray,
    metric: Metric,
    *,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bound:
    """The same bound of the drop divided by the original's score: see `drop_bound`.

    For unbounded positive metrics, where "5 %" means relative to the original.
    """
    pair = _paired(original, artifact, metric, groups=groups, relative=True)
    return _bound(pair, confidence=confidence, seed=seed)


def count_as_worst(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows with values that are no numbers replaced by the metric's worst, (N, k) -> (N, k).

    Rows of several columns, and metrics without a worst value, keep them: nothing can stand in.
    """
    broken = ~np.isfinite(rows).all(1)
    worst = metric.range[0] if metric.higher_is_better else metric.range[1]
    if not broken.any() or rows.shape[1] != 1 or not math.isfinite(worst):
        return rows
    return np.where(broken[:, None], worst, rows)


def is_binary(original: np.ndarray, artifact: np.ndarray, metric: Metric) -> bool:
    """Whether the rows are one column of 0 and 1 whose aggregate is the mean, in [0, 1]."""
    if original.shape[1] != 1 or tuple(metric.range) != (0, 1):
        return False
    probe = np.array([[0.0], [1.0], [1.0], [1.0]])
    means = all(
        math.isclose(metric.aggregate(rows), float(rows.mean()), abs_tol=1e-12)
        for rows in (original, artifact, probe)
    )
    return means and all(bool(((rows == 0) | (rows == 1)).all()) for rows in (original, artifact))


def ratio_bound(
    ratios: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Median of paired per-round ratios with its one-sided bounds.

    The bounds are order statistics by the sign test, so they hold for every distribution and a
    round disturbed by something else on the machine hardly moves them.

    Args:
        ratios: Artifact over original, one per interleaved round, (n,), positive.
        confidence: Of each bound, in (0.5, 1).

    Returns:
        (median, lower, upper). With fewer than 5 rounds (at 0.95) no bound exists: the lower one
        is 0, the upper one infinite.

    Raises:
        InputError: No ratios, or one that is not a positive number.
    """
    proportions.check_confidence(confidence)
    ordered = np.sort(np.asarray(ratios, float).ravel())
    rounds = len(ordered)
    if rounds == 0 or not (np.isfinite(ordered).all() and ordered[0] > 0):
        raise InputError(
            "ratios of a measurement must be positive numbers, at least one",
            "a timer or a memory counter returned nothing",
        )
    tails = bdtr(np.arange(rounds), rounds, 0.5)  # P(at most i rounds below the true median)
    inside = int((tails <= 1 - confidence).sum())  # order statistics beyond the bound
    median = float(np.median(ordered))
    if inside == 0:
        return median, 0.0, math.inf
    return median, float(ordered[inside - 1]), float(ordered[rounds - inside])


def _paired(
    original: np.ndarray,
    artifact: np.ndarray,
    metric: Metric,
    *,
    groups: np.ndarray | None,
    relative: bool,
) -> bootstrap.Pair:
    _check_shapes(original, artifact, groups)
    count = len(original)
    labels = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    return bootstrap.Pair(original, artifact, metric, labels, relative)


def _bound(pair: bootstrap.Pair, *, confidence: float, seed: int) -> Bound:
    """Chooses the bound by the data; see the table above."""
    proportions.check_confidence(confidence)
    original, artifact, count = pair.original, pair.artifact, len(pair.labels)
    blank = Bound(None, None, None, confidence, "none", count, 0, 0)
    if count == 0:
        return replace(blank, reason="there are no examples")
    same = (original == artifact) | (np.isnan(original) & np.isnan(artifact))  # (N, k)
    flips = int((~same.all(1)).sum())
    blank = replace(blank, groups=int(pair.labels.max()) + 1, flips=flips)
    original, artifact = (count_as_worst(rows, pair.metric) for rows in (original, artifact))
    broken = int((~(np.isfinite(original) & np.isfinite(artifact))).any(1).sum())
    if broken:
        reason = f"{broken} answers are no numbers, and this metric has no worst value for them"
        return replace(blank, upper=math.inf, reason=reason)
    pair = replace(pair, original=original, artifact=artifact)
    estimate = pair.estimate()
    if not math.isfinite(estimate):
        reason = f"the {pair.metric.name} of the original is zero or no number"
        return replace(blank, reason=reason)
    blank = replace(blank, estimate=estimate)
    independent = blank.groups == count and not pair.relative
    if independent and is_binary(original, artifact, pair.metric):
        return _score_bound(original, artifact, pair.metric, blank)
    return _bootstrap_bound(pair, blank, seed)


def _check_shapes(original: np.ndarray, artifact: np.ndarray, groups: np.ndarray | None) -> None:
    if original.ndim != 2 or original.shape != artifact.shape:
        raise TaskError(
            f"rows of original {original.shape} and artifact {artifact.shape} do not match",
            "a metric returns one row per example, (N, k)",
        )
    if groups is not None and groups.shape != original.shape[:1]:
        raise TaskError(
            f"{groups.shape} groups for {len(original)} examples", "one group per example"
        )


def _score_bound(original: np.ndarray, artifact: np.ndarray, metric: Metric, blank: Bound) -> Bound:
    before, after = original[:, 0], artifact[:, 0]
    falls, rises = int((before > after).sum()), int((before < after).sum())
    worse, better = (falls, rises) if metric.higher_is_better else (rises, falls)
    upper = float(
        proportions.drop_upper(worse, better, examples=blank.examples, confidence=blank.confidence)
    )
    lower = float(
        proportions.drop_lower(worse, better, examples=blank.examples, confidence=blank.confidence)
    )
    return replace(blank, lower=lower, upper=upper, method="score")


def _bootstrap_bound(pair: bootstrap.Pair, blank: Bound, seed: int) -> Bound:
    if blank.groups < MIN_GROUPS:
        reason = f"{blank.groups} independent examples are too few, {MIN_GROUPS} are needed"
        return replace(blank, reason=reason)
    changed = pair.changed_groups()
    if changed < FEW_CHANGED:
        return _few_changed_bound(pair, blank, changed)
    lower, upper = bootstrap.studentized_bounds(pair, blank.confidence, seed=seed)
    if not math.isfinite(upper):
        return replace(blank, lower=lower, reason="too many looks at the same examples")
    if is_binary(pair.original, pair.artifact, pair.metric):
        upper = max(upper, proportions.zero_flip_bound(blank.groups, blank.confidence))
    return replace(blank, lower=lower, upper=upper, method="bootstrap")


def _few_changed_bound(pair: bootstrap.Pair, blank: Bound, changed: int) -> Bound:
    """At most so many groups change, and each can lose the whole range, no more."""
    width = pair.metric.range[1] - pair.metric.range[0]
    if pair.relative or not math.isfinite(width):
        reason = (
            f"only {changed} of {blank.groups} groups changed, and one more could lose any amount"
        )
        return replace(blank, reason=reason)
    share = float(
        proportions.drop_upper(changed, 0, examples=blank.groups, confidence=blank.confidence)
    )
    share = min(1.0, share * pair.largest_group() * blank.groups / blank.examples)
    return replace(blank, lower=-share * width, upper=share * width, method="exact")
