"""What is learned from what: the base of every use of the training loop, and the plainest one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lilliput.batches import Batch
from lilliput.errors import TaskError, TrainingError
from lilliput.scoring import IGNORE, classes_last
from lilliput.task import Task
from lilliput.usercode import users_code

Targets = tuple[tuple[Any, float], ...]  # targets and their weights, which sum to 1


class Lesson:
    """What is learned from what. The loop asks for the loss of each batch and nothing else.

    Attributes:
        use: What it is called in messages.
        labelled: Whether it needs targets.
    """

    use = "training"
    labelled = False

    def described(self) -> Mapping[str, Any]:
        """Plain data that tells this lesson from others: a checkpoint is of one lesson."""
        return {"use": self.use}

    def extra(self) -> nn.Module | None:
        """Modules that learn along and are thrown away: projections of features."""
        return None

    def before(self, model: nn.Module, share: float) -> None:
        """Called before a step, at this share of the whole, in [0, 1): to tighten constraints."""

    def loss(self, model: nn.Module, batch: Batch, *, targets: Targets) -> Tensor:
        """A scalar. `model` may be wrapped: it is called, not looked into."""
        raise NotImplementedError


class Supervised(Lesson):
    """Learns the targets: the task's loss, or cross-entropy of class scores, else squared error.

    Args:
        task: Its loss and its way of calling the model.
        reach: What of the model learns, in words.
    """

    use = "fine-tuning"
    labelled = True

    def __init__(self, task: Task, reach: str = "all weights") -> None:
        self.task, self.reach = task, reach

    def described(self) -> Mapping[str, Any]:
        """The reach tells one run from another."""
        return {"use": self.use, "reach": self.reach}

    def loss(self, model: nn.Module, batch: Batch, *, targets: Targets) -> Tensor:
        """The mean over the examples, weighted where they are mixtures."""
        outputs = self.task.predict(model, batch.inputs)
        return mixed_loss(self.task, outputs, targets=targets)


def mixed_loss(task: Task, outputs: Tensor, *, targets: Targets) -> Tensor:
    """`target_loss` over targets by their weights."""
    parts = [weight * target_loss(task, outputs, targets=wanted) for wanted, weight in targets]
    return torch.stack(parts).sum()


def target_loss(task: Task, outputs: Tensor, *, targets: Any) -> Tensor:
    """The task's own loss; without one cross-entropy for class numbers, else squared error.

    Raises:
        TaskError: The targets do not fit the outputs.
        TrainingError: The task's loss is no scalar.
    """
    if task.loss is not None:
        with users_code("loss"):
            loss = task.loss(outputs, targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise TrainingError("the task's loss must be a scalar tensor", "take its mean")
        return loss.reshape(())
    if not isinstance(targets, Tensor):
        raise TaskError(
            f"targets of type {type(targets).__name__} need a loss of your own",
            "give Task(loss=...)",
        )
    if not targets.is_floating_point() and outputs.ndim >= 2 and outputs.shape[-1] > 1:
        scores, labels = classes_last(outputs, targets, "training")
        return F.cross_entropy(scores.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE)
    if targets.shape != outputs.shape:
        raise TaskError(
            f"targets {tuple(targets.shape)} do not fit outputs {tuple(outputs.shape)}",
            "give Task(loss=...)",
        )
    return F.mse_loss(outputs.float(), targets.to(outputs).float())
