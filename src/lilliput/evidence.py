"""What the two files answered on the proof examples: the raw material of a verdict."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Evidence:
    """Rows of original and artifact on the same examples, from the files' own outputs.

    Attributes:
        original: Metric rows of the original's ONNX export, (N, k) float64.
        artifact: Metric rows of the artifact, (N, k) float64.
        indices: Which examples, (N,) int64, into ``task.examples``.
        groups: Group of each example, (N,) int64; examples of one group are not independent.
        labels: Class of each example as text (its target, or the original's answer where there
            are no targets); None where the task has no classes.
        original_classes: Predicted class per example, (N,) int64, or None.
        artifact_classes: Predicted class per example, (N,) int64, or None.
        proof_hash: SHA-256 over the bytes of the proof inputs and targets: the ledger's key.
    """

    original: np.ndarray
    artifact: np.ndarray
    indices: np.ndarray
    groups: np.ndarray
    labels: tuple[str, ...] | None = None
    original_classes: np.ndarray | None = None
    artifact_classes: np.ndarray | None = None
    proof_hash: str = ""
