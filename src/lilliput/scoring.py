"""The arithmetic that metrics share: checked class scores in, rows out."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lilliput.errors import TaskError

Rows = np.ndarray  # (N, k) float64: one row per example, k columns that `aggregate` sums up

PARTS = ("name", "higher_is_better", "range", "reference", "rows", "aggregate")
IGNORE = -100  # the target id of a position that is not scored


def check_metric(metric: object) -> None:
    """Refuses what is no metric.

    Raises:
        TaskError: Parts of a `Metric` are missing; says which.
    """
    lacking = [name for name in PARTS if not hasattr(metric, name)]
    if lacking:
        raise TaskError(
            f"metric {type(metric).__name__} has no {', '.join(lacking)}",
            f"a metric has {', '.join(PARTS)}; or give one of the names",
        )


def mean_or_ratio(rows: Rows) -> float:
    """Mean of one column, or the ratio of the sums of two; NaN for no rows."""
    if rows.shape[1] == 1:
        return float(rows.mean()) if len(rows) else float("nan")
    total, count = rows.sum(axis=0)
    return float(total / count) if count else float("nan")


def hit_rows(hits: Tensor, counted: Tensor, broken: Tensor) -> Rows:
    """Rows of 0/1 answers: (N, 1) for (N,) hits, else (N, 2); NaN where the output was NaN."""
    if hits.ndim == 1:
        rows = hits.double()[:, None]
    else:
        hits, counted = (hits & counted).flatten(1), counted.flatten(1)
        rows = torch.stack([hits.sum(1).double(), counted.sum(1).double()], 1)
    return rows.masked_fill(broken[:, None], float("nan")).numpy()


def has_nan(outputs: Tensor) -> Tensor:
    """Which examples have a NaN among their outputs, (N, ...) -> (N,)."""
    return outputs.flatten(1).isnan().any(1)


def counted(real: Tensor, mask: Tensor | None) -> Tensor:
    """Positions that are scored: `real` (N, T, ...) where an (N, T) mask is 1."""
    real = real.bool()
    return real & mask.bool() if mask is not None and mask.shape == real.shape else real


def masked(outputs: Tensor, mask: Tensor | None) -> Tensor:
    """(N, ...) flattened to (N, F), with masked positions of (N, T, ...) set to zero."""
    if mask is not None and outputs.ndim >= 2 and outputs.shape[:2] == mask.shape:
        shape = (*mask.shape, *([1] * (outputs.ndim - 2)))
        outputs = outputs.where(mask.bool().reshape(shape), 0)
    return outputs.reshape(len(outputs), -1)


def move_classes(outputs: Tensor) -> Tensor:
    """Class scores with the classes last: (N, C, H, W) -> (N, H, W, C)."""
    return outputs.movedim(1, -1) if outputs.ndim >= 4 else outputs


def same_shape(outputs: Tensor, targets: Any, name: str) -> Tensor:
    """The original's output as a tensor, checked to have the shape of `outputs`."""
    reference: Tensor = torch.as_tensor(targets)
    if reference.shape != outputs.shape:
        raise TaskError(
            f"{name}: the outputs have shape {tuple(outputs.shape)}, "
            f"the original's {tuple(reference.shape)}"
        )
    return reference


def classes_last(outputs: Tensor, targets: Any, name: str) -> tuple[Tensor, Tensor]:
    """Scores (N, ..., C) and checked integer labels (N, ...)."""
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise TaskError(
            f"{name} needs class scores (N, C) with C >= 2, the output is {tuple(outputs.shape)}",
            'for one number per example use metric="mse", or return two scores',
        )
    labels = _labels(targets, name)
    scores = move_classes(outputs) if labels.shape != outputs.shape[:-1] else outputs
    if labels.shape != scores.shape[:-1]:
        raise TaskError(
            f"{name}: labels have shape {tuple(labels.shape)}, "
            f"expected {tuple(scores.shape[:-1])} for outputs {tuple(outputs.shape)}"
        )
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise TaskError(
            f"{name}: labels must be integers, got {labels.dtype}".replace("torch.", ""),
            "give class numbers, e.g. int(label)",
        )
    real = labels if labels.ndim == 1 else labels[labels != IGNORE]
    classes = scores.shape[-1]
    if real.numel() and not 0 <= int(real.min()) <= int(real.max()) < classes:
        wrong = int(real.min()) if int(real.min()) < 0 else int(real.max())
        raise TaskError(
            f"{name}: label {wrong} is out of range, the model has {classes} classes "
            f"(0 to {classes - 1})"
        )
    return scores, labels.long()


def _labels(targets: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(targets[0]).__name__ if isinstance(targets, list) else type(targets).__name__
        raise TaskError(
            f"{name}: labels must be integers, got {kind}", "give class numbers of one shape"
        ) from error


def divergence(reference: Tensor, outputs: Tensor) -> Tensor:
    """KL in nats over the last dimension of one example, (..., C) -> (...)."""
    p = torch.log_softmax(reference.double(), -1)
    q = torch.log_softmax(outputs.double(), -1)
    return (p.exp() * (p - q)).where(p != -torch.inf, 0).sum(-1).clamp(min=0)
