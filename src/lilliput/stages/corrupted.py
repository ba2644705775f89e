"""How original and artifact answer when their inputs are corrupted: a test of generalization.

It describes; no limit is judged by it. Both files see the same corrupted inputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lilliput.batches import Batch, flatten_inputs
from lilliput.errors import TaskError
from lilliput.evaluation import evaluating
from lilliput.learning.augmenting.augmentation import Augmentation
from lilliput.learning.augmenting.policy import Policy, default_corruptions
from lilliput.metrics import Metric, score_rows
from lilliput.progress import Progress, unseen
from lilliput.records import CorruptedScore
from lilliput.statistics import drop_bound
from lilliput.task import Task

AUTO, NONE = "auto", "none"
MOST = 500  # examples, spread evenly over the proof examples
CONFIDENCE = 0.95
SEED = 0  # the same in every run, so that runs can be compared

# Arrays of a batch -> the outputs of original and artifact that are scored; None: cannot run.
Run = Callable[[list[np.ndarray]], tuple[Tensor, Tensor] | None]


def check_corruptions(text: str) -> None:
    """Refuses what names no corruptions, before anything else is done.

    Args:
        text: ``auto``, ``none``, or augmentations: ``noise(decibels=10), rotate``.

    Raises:
        PlanError: See `Policy.parse`.
        TaskError: An augmentation that mixes examples.
    """
    mixing = [] if text == AUTO else [step for step in Policy.parse(text).steps if step.mixes]
    if mixing:
        raise TaskError(
            f"generalize: {mixing[0].name} mixes examples, and a mixed one has no answer",
            "it serves training; leave it out",
        )


def corruptions_of(task: Task, text: str) -> tuple[Augmentation, ...]:
    """The corruptions that a text names, each one tried on two examples.

    Args:
        task: Whose inputs are corrupted.
        text: As for `check_corruptions`; ``auto`` goes by the form of the inputs, and gives none
            where the form is not known.

    Raises:
        TaskError: The inputs have another form than one takes.
        MissingExtraError: What one is built on is not installed.
    """
    check_corruptions(text)
    if text == NONE or not len(task):
        return ()
    batch = next(iter(task.batches(range(min(2, len(task))), 2)))
    with evaluating(task.model):
        output = task.predict(task.model, batch.inputs)
    labelled = task.resolve_metric(output).reference == "targets"
    answers = batch.targets if labelled else output
    if text == AUTO:
        return default_corruptions(batch.inputs, answers)
    steps = Policy.parse(text).steps
    for step in steps:
        Policy((step,))(batch.inputs, answers, generator=torch.Generator())
    return steps


def score_corrupted(
    run: Run,
    task: Task,
    *,
    proof: Sequence[int],
    corruptions: Sequence[Augmentation],
    batch_size: int,
    progress: Progress = unseen,
) -> tuple[CorruptedScore, ...]:
    """Scores of both files under each corruption, on at most `MOST` proof examples.

    Metrics that compare with the original compare with its answers to inputs as they are.

    Args:
        run: Asks both files.
        task: Examples and metric.
        proof: Examples that judge, by their places in the task.
        corruptions: Each is measured by itself.
        batch_size: Examples per call.
        progress: Told the stage, steps done and steps in all.

    Returns:
        A score per corruption, in their order; none where the files cannot be run, or answer in
        another shape than to the inputs as they are.
    """
    if not corruptions or not len(proof):
        return ()
    chosen = [proof[place * len(proof) // MOST] for place in range(MOST)]
    chosen = list(dict.fromkeys(chosen)) if len(proof) > MOST else list(proof)
    tallies = [_Tally(each) for each in corruptions]
    metric: Metric | None = None
    for done, batch in enumerate(task.batches(chosen, batch_size)):
        progress("generalize", done * batch_size, len(chosen))
        clean = run(flatten_inputs(batch.inputs))
        if clean is None:
            return ()
        metric = metric or task.resolve_metric(clean[0])
        asked = _Asked(batch, task, metric, clean)
        if not all(tally.add(run, asked) for tally in tallies):
            return ()
    return tuple(tally.score(metric) for tally in tallies if metric is not None)


@dataclass(frozen=True)
class _Asked:
    """A batch, and what both files answer to it as it is."""

    batch: Batch
    task: Task
    metric: Metric
    clean: tuple[Tensor, Tensor]

    @property
    def answers(self) -> Any:
        """What the outputs are scored against."""
        return self.batch.targets if self.metric.reference == "targets" else self.clean[0]


@dataclass
class _Tally:
    """Rows of both files under one corruption, batch by batch."""

    corruption: Augmentation
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(SEED))
    rows: tuple[list[np.ndarray], list[np.ndarray]] = field(default_factory=lambda: ([], []))
    groups: list[np.ndarray] = field(default_factory=list)

    def add(self, run: Run, asked: _Asked) -> bool:
        """Scores a batch; False where the files cannot be run, or answer in another shape."""
        policy, batch = Policy((self.corruption,)), asked.batch
        changed = policy(batch.inputs, asked.answers, generator=self.generator)
        outputs = run(flatten_inputs(changed.inputs))
        if outputs is None or any(output.shape != asked.clean[0].shape for output in outputs):
            return False
        mask = asked.task.mask_of(changed.inputs)
        for rows, output in zip(self.rows, outputs, strict=True):
            rows.append(score_rows(asked.metric, output, asked.answers, mask=mask))
        self.groups.append(batch.groups)
        return True

    def score(self, metric: Metric) -> CorruptedScore:
        """What the report says about this corruption."""
        original, artifact = (np.concatenate(rows) for rows in self.rows)
        groups = np.concatenate(self.groups)
        bound = drop_bound(
            original, artifact, metric, groups=groups, confidence=CONFIDENCE, seed=SEED
        )
        return CorruptedScore(
            corruption=str(self.corruption),
            examples=len(original),
            original_score=_finite(metric.aggregate(original)),
            artifact_score=_finite(metric.aggregate(artifact)),
            drop=bound.estimate,
            upper=_finite(bound.upper),
            confidence=CONFIDENCE,
        )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
