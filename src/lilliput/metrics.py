"""Metrics: score examples one by one, then add the scores up.

A metric never sees a whole data set: `rows` turns a batch into one row per example and `aggregate`
turns the rows of any set of examples into its score, so that a bound can resample examples. Where
a row has one column, the score is the mean of that column; rows with several columns are sums
(counts of hits, log-likelihoods and tokens) that `aggregate` combines.
"""

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from lilliput.errors import TaskError
from lilliput.scoring import (
    IGNORE,
    Rows,
    classes_last,
    counted,
    divergence,
    has_nan,
    hit_rows,
    masked,
    mean_or_ratio,
    move_classes,
    same_shape,
)
from lilliput.usercode import users_code

Reference = Literal["targets", "original"]


class Metric(Protocol):
    """Scores examples one by one and says how the scores aggregate.

    `rows` may also take a keyword ``mask`` ((N, T), 1 = real position); see `score_rows`.

    Attributes:
        name: Word for it in reports.
        higher_is_better: Direction.
        range: (lowest, highest) possible value of the aggregate; infinite ends allowed.
        reference: What `targets` are in `rows`: ``"targets"`` (the user's labels) or
            ``"original"`` (the original model's outputs on the same examples; label-free).
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def higher_is_better(self) -> bool: ...  # noqa: D102
    @property
    def range(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def reference(self) -> str: ...  # noqa: D102

    def rows(self, outputs: Tensor, targets: Any) -> Rows:
        """One row per example: (N, ...) outputs and N targets -> (N, k)."""
        ...

    def aggregate(self, rows: Rows) -> float:
        """The score of a set of examples from its rows, (N, k) -> float."""
        ...


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers among the `k` best-scored classes (top-k).

    ``outputs`` (N, C) with targets (N,), or per position: (N, T, C) with (N, T), or
    (N, C, H, W) with (N, H, W). Targets are integers in [0, C); -100 and masked positions are
    not scored. Rows: (N, 1) of 0/1 for whole examples, else (N, 2) of (right, counted).
    """

    k: int = 1
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    reference: Reference = "targets"

    @property
    def name(self) -> str:
        """``accuracy`` or e.g. ``top5``."""
        return "accuracy" if self.k == 1 else f"top{self.k}"

    def rows(self, outputs: Tensor, targets: Any, *, mask: Tensor | None = None) -> Rows:
        """Right answers per example.

        Raises:
            TaskError: Targets of the wrong shape, type or range, or fewer than k classes.
        """
        outputs, labels = classes_last(outputs, targets, self.name)
        if outputs.shape[-1] < self.k:
            raise TaskError(f"{self.name} needs at least {self.k} classes, got {outputs.shape[-1]}")
        best = outputs.topk(self.k, dim=-1).indices  # (N, ..., k)
        right = (best == labels.unsqueeze(-1)).any(-1)  # (N, ...)
        return hit_rows(right, counted(labels != IGNORE, mask), has_nan(outputs))

    def aggregate(self, rows: Rows) -> float:
        """Share of right answers, in [0, 1]."""
        return mean_or_ratio(rows)


@dataclass(frozen=True)
class F1:
    """F1 score, the harmonic mean of precision and recall, of class 1 or averaged over classes.

    ``outputs`` (N, C), targets (N,) integers in [0, C). Rows are (N, 3 C): one-hot true
    positives, then false positives, then false negatives. A class that neither occurs nor is
    answered scores 0 when it is class 1 of ``binary`` and is left out of ``macro``.
    """

    average: Literal["binary", "macro"] = "binary"
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    reference: Reference = "targets"

    @property
    def name(self) -> str:
        """``f1`` or ``f1-macro``."""
        return "f1" if self.average == "binary" else "f1-macro"

    def rows(self, outputs: Tensor, targets: Any) -> Rows:
        """Counts per class, (N, 3 C).

        Raises:
            TaskError: Targets that do not fit, or ``binary`` with other than two classes.
        """
        outputs, labels = classes_last(outputs, targets, self.name)
        if outputs.ndim != 2:
            raise TaskError(f"{self.name} needs outputs (N, C), got {tuple(outputs.shape)}")
        classes = outputs.shape[1]
        if self.average == "binary" and classes != 2:
            raise TaskError(
                f"f1 is for 2 classes, the model has {classes}", 'use metric="f1-macro"'
            )
        answer = torch.eye(classes)[outputs.argmax(1)]  # (N, C)
        truth = torch.eye(classes)[labels]  # (N, C)
        counts = torch.cat([answer * truth, answer * (1 - truth), (1 - answer) * truth], 1)
        rows = counts.double().numpy()
        rows[has_nan(outputs).numpy()] = np.nan
        return rows

    def aggregate(self, rows: Rows) -> float:
        """The F1 score, in [0, 1]."""
        hit, wrong, missed = np.split(rows.sum(axis=0), 3)
        weight = 2 * hit + wrong + missed
        score = np.divide(2 * hit, weight, out=np.zeros_like(hit), where=weight != 0)
        if self.average == "binary":
            return float(score[1])
        return float(score[weight != 0].mean()) if (weight != 0).any() else float("nan")


@dataclass(frozen=True)
class SquaredError:
    """Mean squared error per example, averaged over examples.

    ``outputs`` and targets of equal shape (N, ...); a trailing dimension of 1 may be missing on
    either side. Rows: (N, 1).
    """

    name: str = "mse"
    higher_is_better: bool = False
    range: tuple[float, float] = (0.0, float("inf"))
    reference: Reference = "targets"

    def rows(self, outputs: Tensor, targets: Any, *, mask: Tensor | None = None) -> Rows:
        """Mean squared error of each example, (N, 1).

        Raises:
            TaskError: Targets of another shape than the outputs.
        """
        wanted = torch.as_tensor(targets).to(torch.float64)
        outputs = outputs.double()
        if wanted.ndim + 1 == outputs.ndim and outputs.shape[-1] == 1:
            wanted = wanted.unsqueeze(-1)
        if wanted.ndim == outputs.ndim + 1 and wanted.shape[-1] == 1:
            outputs = outputs.unsqueeze(-1)
        if wanted.shape != outputs.shape:
            raise TaskError(
                f"mse: targets have shape {tuple(wanted.shape)}, outputs {tuple(outputs.shape)}"
            )
        squared = (outputs - wanted).square()
        if mask is None or squared.shape[:2] != mask.shape:
            return squared.flatten(1).mean(1, keepdim=True).numpy()
        kept = squared[..., None].flatten(2).mean(2).where(mask.bool(), 0)  # (N, T)
        return (kept.sum(1) / mask.sum(1))[:, None].numpy()

    def aggregate(self, rows: Rows) -> float:
        """Mean over the examples; at least 0."""
        return mean_or_ratio(rows)


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a causal language model: exp of the mean negative log-likelihood per token.

    ``outputs`` are logits (N, T, V). Targets are token ids (N, T), usually the inputs
    themselves: position t predicts token t + 1 (``shift=False``: they are shifted already).
    -100 and masked positions are not scored. Rows: (N, 2) of (nats, tokens).
    """

    shift: bool = True
    name: str = "perplexity"
    higher_is_better: bool = False
    range: tuple[float, float] = (1.0, float("inf"))
    reference: Reference = "targets"

    def rows(self, outputs: Tensor, targets: Any, *, mask: Tensor | None = None) -> Rows:
        """Sum of negative log-likelihoods in nats and number of tokens, (N, 2).

        Raises:
            TaskError: Targets of the wrong shape, type or range.
        """
        if outputs.ndim != 3:
            raise TaskError(f"perplexity needs logits (N, T, V), got {tuple(outputs.shape)}")
        _, labels = classes_last(outputs, targets, self.name)
        scored = counted(labels != IGNORE, mask)
        if self.shift:
            outputs, labels, scored = outputs[:, :-1], labels[:, 1:], scored[:, 1:]
        rows = np.zeros((len(outputs), 2))
        for n, (logits, ids, real) in enumerate(zip(outputs, labels, scored, strict=True)):
            kept = torch.log_softmax(logits[real].double(), -1)  # (tokens, V)
            rows[n] = -float(kept.gather(1, ids[real][:, None]).sum()), int(real.sum())
        return rows

    def aggregate(self, rows: Rows) -> float:
        """Perplexity, at least 1 (infinite when it overflows); NaN without a scored token."""
        with np.errstate(over="ignore"):
            return float(np.exp(mean_or_ratio(rows)))


@dataclass(frozen=True)
class Agreement:
    """Share of answers (arg max) that equal the original model's. Needs no labels.

    Both are class scores (N, C), (N, T, C) or (N, C, H, W). Rows as for `Accuracy`.
    """

    name: str = "agreement"
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    reference: Reference = "original"

    def rows(self, outputs: Tensor, targets: Any, *, mask: Tensor | None = None) -> Rows:
        """Agreeing answers per example: (N, 1), or (N, 2) of (agreeing, counted)."""
        reference = same_shape(outputs, targets, self.name)
        outputs, reference = move_classes(outputs), move_classes(reference)
        agree = outputs.argmax(-1) == reference.argmax(-1)  # (N, ...)
        real = counted(torch.ones_like(agree), mask)
        return hit_rows(agree, real, has_nan(outputs))

    def aggregate(self, rows: Rows) -> float:
        """Share of agreeing answers, in [0, 1]."""
        return mean_or_ratio(rows)


@dataclass(frozen=True)
class Cosine:
    """Mean cosine similarity to the original model's output. Needs no labels.

    Outputs of any shape are flattened per example; masked positions of (N, T, ...) outputs are
    left out. Two outputs that are both zero are equal: 1. Rows: (N, 1).
    """

    name: str = "cosine"
    higher_is_better: bool = True
    range: tuple[float, float] = (-1.0, 1.0)
    reference: Reference = "original"

    def rows(self, outputs: Tensor, targets: Any, *, mask: Tensor | None = None) -> Rows:
        """Cosine per example, (N, 1)."""
        reference = masked(same_shape(outputs, targets, self.name), mask).double()
        outputs = masked(outputs, mask).double()
        dot = (outputs * reference).sum(1)
        lengths = outputs.norm(dim=1) * reference.norm(dim=1)
        both_zero = (outputs == 0).all(1) & (reference == 0).all(1)
        cosine = torch.where(lengths == 0, both_zero.double(), dot / lengths.where(lengths != 0, 1))
        return cosine.clamp(-1, 1)[:, None].numpy()

    def aggregate(self, rows: Rows) -> float:
        """Mean over the examples, in [-1, 1]."""
        return mean_or_ratio(rows)


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence from the original's answers to the new ones, in nats.

    Scores (N, C) or (N, T, C) go through log-softmax over the classes. Rows: (N, 1), or (N, 2)
    of (nats, counted positions).
    """

    name: str = "kl"
    higher_is_better: bool = False
    range: tuple[float, float] = (0.0, float("inf"))
    reference: Reference = "original"

    def rows(self, outputs: Tensor, targets: Any, *, mask: Tensor | None = None) -> Rows:
        """Divergence per example."""
        reference = move_classes(same_shape(outputs, targets, self.name))
        outputs = move_classes(outputs)
        nats = torch.stack([divergence(p, q) for p, q in zip(reference, outputs, strict=True)])
        if nats.ndim == 1:
            return nats[:, None].numpy()
        real = counted(torch.ones_like(nats, dtype=torch.bool), mask).flatten(1)
        nats = nats.flatten(1).where(real, 0)
        return torch.stack([nats.sum(1), real.sum(1).double()], 1).numpy()

    def aggregate(self, rows: Rows) -> float:
        """Nats per answer, at least 0."""
        return mean_or_ratio(rows)


METRICS: tuple[Metric, ...] = (
    Accuracy(),
    Accuracy(k=5),
    F1(),
    F1(average="macro"),
    SquaredError(),
    Perplexity(),
    Agreement(),
    Cosine(),
    Divergence(),
)


def metric_by_name(name: str) -> Metric:
    """The metric of that name; ``top<k>`` takes any k.

    Raises:
        TaskError: An unknown name; the message lists the names, the hint the nearest one.
    """
    known = {metric.name: metric for metric in METRICS}
    if name in known:
        return known[name]
    if top := re.fullmatch(r"top([1-9]\d*)", name):
        return Accuracy(k=int(top[1]))
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    raise TaskError(
        f'there is no metric "{name}"; the names are {", ".join(known)}',
        f'did you mean "{close[0]}"?' if close else "or give an object with rows() and aggregate()",
    )


def score_rows(
    metric: Metric, outputs: Tensor, targets: Any, *, mask: Tensor | None = None
) -> Rows:
    """Rows of a batch, checked: the one door through which metrics are called.

    Args:
        metric: Any metric, the user's own included.
        outputs: The picked output of a batch, (N, ...).
        targets: Its N targets, or the original's output where the reference is ``"original"``.
        mask: (N, T), 1 = real position; passed on where the metric's `rows` takes ``mask``.

    Raises:
        TaskError: The metric failed to return one row of numbers per example.
    """
    extra = {"mask": mask} if mask is not None and _takes_mask(metric.rows) else {}
    with users_code(f"metric {metric.name}"):
        rows = np.asarray(metric.rows(outputs, targets, **extra))
    if rows.ndim == 1:
        rows = rows[:, None]  # (N, 1)
    if rows.ndim != 2 or len(rows) != len(outputs) or rows.dtype.kind not in "fiub":
        raise TaskError(
            f"metric {metric.name}: rows() gave {rows.dtype} of shape {rows.shape} "
            f"for {len(outputs)} examples",
            f"it must return numbers of shape ({len(outputs)}, k), one row per example",
        )
    return rows.astype(np.float64)


def predicted_classes(outputs: Tensor) -> np.ndarray | None:
    """The answered class per example, (N,) int64, where outputs are class scores (N, C >= 2)."""
    if not is_class_scores(outputs):
        return None
    return outputs.argmax(1).numpy().astype(np.int64)


def is_class_scores(outputs: Tensor) -> bool:
    """Whether outputs look like class scores: (N, C >= 2) that are not unit-length embeddings."""
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not outputs.is_floating_point():
        return False
    values = outputs.double()
    unit_length = bool(((values.norm(dim=1) - 1).abs() < 1e-4).all())
    probabilities = bool(((values >= 0).all(1) & ((values.sum(1) - 1).abs() < 1e-3)).all())
    return probabilities or not unit_length


def _takes_mask(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "mask" or p.kind is p.VAR_KEYWORD for p in parameters)
