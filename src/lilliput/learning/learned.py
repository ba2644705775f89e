"""What a training run leaves: the trained copy, and how it got there."""

from dataclasses import dataclass, replace

from torch import nn

from lilliput.learning.training import Training
from lilliput.task import Task


@dataclass(frozen=True)
class Moment:
    """One evaluation.

    Attributes:
        step: Steps done by then.
        loss: Mean loss since the one before; None before the first step.
        score: On search examples; None without any.
        rate: Learning rate of the last step.
    """

    step: int
    loss: float | None
    score: float | None
    rate: float


@dataclass(frozen=True)
class Learned:
    """A trained copy; the model that was given is as it was.

    Attributes:
        model: The copy, in evaluation mode, as it was at its best evaluation.
        training: The settings, with the number of steps that were done in the place of minutes:
            with them the same run gives the same weights.
        history: Every evaluation, the first before any step.
        best: The one whose weights were kept.
        steps: Steps done.
        notes: What the user should know: rollbacks, examples left out, an early end.
        seconds_per_step: Median.
        resumed: The step from which it went on; 0 where it began anew.
    """

    model: nn.Module
    training: Training
    history: tuple[Moment, ...]
    best: Moment
    steps: int
    notes: tuple[str, ...]
    seconds_per_step: float
    resumed: int = 0

    def task(self, task: Task) -> Task:
        """A task over the trained copy, e.g. to compress it."""
        return replace(task, model=self.model)
