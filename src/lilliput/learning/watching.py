"""How good the pupil is by now: its score on search examples."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lilliput.batches import as_inputs
from lilliput.evaluation import evaluating
from lilliput.metrics import Metric, score_rows
from lilliput.task import Task

BATCH = 64


class Watch:
    """Scores a model on search examples.

    Args:
        task: Its model is the original, with which metrics of agreement compare.
        subset: Places of the search examples.
        metric: The task's metric.
    """

    def __init__(self, task: Task, subset: Sequence[int], metric: Metric) -> None:
        self.task, self.subset, self.metric = task, tuple(subset), metric
        self._originals: list[Tensor] | None = None

    @classmethod
    def of(cls, task: Task, *, subset: Sequence[int], metric: Metric | None) -> "Watch | None":
        """None where there is nothing to watch by."""
        return cls(task, subset, metric) if subset and metric is not None else None

    def better(self, score: float, than: float | None) -> bool:
        """Whether a score beats another; one that is no number beats nothing."""
        if np.isnan(score):
            return False
        if than is None or np.isnan(than):
            return True
        return score > than if self.metric.higher_is_better else score < than

    def __call__(self, model: nn.Module) -> float:
        """The score of a model in evaluation mode; its flags are left as they were."""
        wanted = self._wanted() if self.metric.reference == "original" else None
        rows = []
        with evaluating(model):
            for place, batch in enumerate(self.task.batches(self.subset, BATCH)):
                output = self.task.predict(model, _moved(batch.inputs, model)).float().cpu()
                targets = batch.targets if wanted is None else wanted[place].to(output)
                rows.append(score_rows(self.metric, output, targets, mask=batch.mask))
        return float(self.metric.aggregate(np.concatenate(rows)))

    def _wanted(self) -> list[Tensor]:
        if self._originals is None:
            model = self.task.model
            with evaluating(model):
                self._originals = [
                    self.task.predict(model, _moved(batch.inputs, model)).float().cpu()
                    for batch in self.task.batches(self.subset, BATCH)
                ]
        return self._originals


def _moved(inputs: object, model: nn.Module) -> object:
    """Inputs on the model's device."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return inputs if device.type == "cpu" else to_device(inputs, device)


def to_device(inputs: object, device: torch.device) -> object:
    """A tensor, tuple or dict of tensors on another device."""
    inputs = as_inputs(inputs)
    if isinstance(inputs, dict):
        return {name: value.to(device) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(value.to(device) for value in inputs)
    return inputs.to(device) if isinstance(inputs, Tensor) else inputs
