"""A compressed model learns to answer as the original does, label-free or with labels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.batches import Batch
from lilliput.evaluation import evaluating
from lilliput.learning.lesson import Lesson, Targets, mixed_loss
from lilliput.learning.watching import BATCH, Watch
from lilliput.metrics import is_class_scores
from lilliput.task import Task
from lilliput.tensor.divergence import divergence
from lilliput.tensor.imitation import answer_divergence, relative_error, softened


class Recovering(Lesson):
    """Learns the original's outputs: their divergence, mixed with the task's loss.

    Distillation: Hinton et al. 2015, arXiv 1503.02531; here teacher and pupil begin alike, so the
    temperature is 1.

    Args:
        task: Its way of calling the model, and its loss.
        original: The model whose outputs are wanted; it is called in evaluation mode.
        labels: Share of the task's loss, in [0, 1].
    """

    use = "recovering"

    def __init__(self, task: Task, original: nn.Module, *, labels: float = 0.0) -> None:
        self.task, self.original, self.labels = task, original, labels
        self.labelled = labels > 0

    def described(self) -> Mapping[str, Any]:
        """How much the labels count tells one run from another."""
        return {"use": self.use, "labels": self.labels}

    def loss(self, model: nn.Module, batch: Batch, *, targets: Targets) -> Tensor:
        """The mean over examples (and real positions)."""
        outputs = self.task.predict(model, batch.inputs)
        loss = torch.zeros(())
        if self.labels < 1:
            with evaluating(self.original):
                wanted = self.task.predict(self.original, batch.inputs)
            loss = (1 - self.labels) * output_loss(outputs, wanted, mask=batch.mask)
        if self.labelled:
            loss = loss + self.labels * mixed_loss(self.task, outputs, targets=targets)
        return loss


def output_loss(outputs: Tensor, wanted: Tensor, *, mask: Tensor | None) -> Tensor:
    """How far outputs are from those wanted: KL of class scores, else the squared error's share.

    Args:
        outputs: (N, ...) with gradients.
        wanted: (N, ...) without.
        mask: (N, T), 1 at real positions; it counts where the outputs have a position each.
    """
    if is_class_scores(wanted):
        got, known = (softened(one, 1.0, probabilities=False) for one in (outputs, wanted))
        return answer_divergence(got, known.exp())
    by_position = mask is not None and outputs.ndim > 2 and outputs.shape[:2] == mask.shape
    return relative_error(outputs.float(), wanted.float(), counted=mask if by_position else None)


class Nearness(Watch):
    """Watches how near a model's outputs are to the original's: less divergence is better.

    Args:
        task: Its model is the original.
        subset: Places of the search examples.
    """

    def __init__(self, task: Task, subset: tuple[int, ...]) -> None:
        self.task, self.subset = task, subset
        self._originals: list[Tensor] | None = None

    def better(self, score: float, than: float | None) -> bool:
        """Whether it is nearer; what is no number is not."""
        return score == score and (than is None or than != than or score < than)

    def __call__(self, model: nn.Module) -> float:
        """The divergence of a model in evaluation mode; see `lilliput.tensor.divergence`."""
        total = count = 0.0
        with evaluating(model):
            for batch, reference in zip(
                self.task.batches(self.subset, BATCH), self._wanted(), strict=True
            ):
                output = self.task.predict(model, batch.inputs)
                classes = is_class_scores(reference)
                total += divergence(output, reference, classes=classes) * len(reference)
                count += len(reference)
        return total / count
