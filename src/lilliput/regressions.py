"""Where the artifact got worse: class by class, and the examples that lost most."""

import math
import warnings

import numpy as np

from lilliput.evidence import Evidence
from lilliput.metrics import Metric
from lilliput.records import ClassChange, WorstExample
from lilliput.statistics import count_as_worst

MOST_WORST = 20


def class_changes(evidence: Evidence) -> tuple[ClassChange, ...]:
    """How each class fared, the worst regression first.

    One 0/1 score per example is averaged within its class; otherwise the artifact's agreement with
    the original's predicted class is. Empty where the task has no classes.
    """
    if evidence.labels is None:
        return ()
    before, after = evidence.original, evidence.artifact
    if before.shape[1] != 1 or not np.isin(before, (0, 1)).all():
        if evidence.original_classes is None or evidence.artifact_classes is None:
            return ()
        before = np.ones((len(evidence.labels), 1))
        after = (evidence.original_classes == evidence.artifact_classes)[:, None].astype(float)
    names, members = np.unique(np.array(evidence.labels), return_inverse=True)
    flipped = (before != after)[:, 0]
    changes = [
        ClassChange(
            label=str(name),
            examples=int(inside.sum()),
            original=float(before[inside].mean()),
            artifact=float(np.nan_to_num(after[inside]).mean()),
            flips=int(flipped[inside].sum()),
        )
        for name, inside in ((name, members == i) for i, name in enumerate(names))
    ]
    return tuple(sorted(changes, key=lambda c: ((c.artifact or 0) - (c.original or 0), c.label)))


def worst_examples(evidence: Evidence, metric: Metric) -> tuple[WorstExample, ...]:
    """Up to 20 examples on which the artifact lost most; described by their index.

    Answers that are no numbers come first. Metrics that score sets only name no other example.
    """
    original = count_as_worst(evidence.original, metric)
    artifact = count_as_worst(evidence.artifact, metric)
    changed = np.flatnonzero((original != artifact).any(1))
    before, after = (
        _single_scores(original[changed], metric),
        _single_scores(artifact[changed], metric),
    )
    with np.errstate(invalid="ignore"):
        loss = before - after if metric.higher_is_better else after - before
    broken = ~np.isfinite(artifact[changed]).all(1)
    loss = np.where(broken, math.inf, np.nan_to_num(loss, nan=-math.inf))  # (changed,)
    order = [i for i in np.argsort(-loss, kind="stable")[:MOST_WORST] if loss[i] > 0]
    return tuple(
        WorstExample(
            index=int(evidence.indices[changed[i]]),
            label=None if evidence.labels is None else evidence.labels[changed[i]],
            summary=f"example {int(evidence.indices[changed[i]])}",
            original=_number(before[i]),
            artifact=_number(after[i]),
        )
        for i in order
    )


def _single_scores(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Score of each row by itself, (n, k) -> (n,); NaN where the metric has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.array([metric.aggregate(row[None]) for row in rows], float)
    except (ValueError, ArithmeticError, IndexError):
        return np.full(len(rows), np.nan)


def _number(score: float) -> float | None:
    return float(score) if math.isfinite(score) else None
