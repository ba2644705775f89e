"""Teachers at work: their answers and features of a batch, and nothing of them is changed."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.batches import Batch, flatten_tensors
from lilliput.evaluation import evaluating
from lilliput.learning.distilling.features import recorded
from lilliput.learning.distilling.light_weights import lightened, parameter_bytes
from lilliput.learning.distilling.teaching import Teaching
from lilliput.model.hashes import values_hash
from lilliput.task import Task


class Average(nn.Module):
    """A model's own average of weights, as a teacher; never in training mode.

    Args:
        model: It is copied.
        decay: What is left of the average at each step, [0, 1); less during the first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: Tensor
        self.eval()

    def train(self, mode: bool = True) -> "Average":
        """It only ever answers."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """One step nearer to a model."""
        done = int(self.steps)
        decay = min(self.decay, (1 + done) / (10 + done))
        own, new = self.model.state_dict(), model.state_dict()
        for name, value in own.items():
            if value.is_floating_point():
                value.lerp_(new[name].to(value), 1 - decay)
            else:
                value.copy_(new[name])
        self.steps += 1


class Teachers:
    """Those who teach one task.

    Args:
        task: How they are called; without others its model teaches.
        teaching: Who, and in what precision.
        average: The student's average, where it teaches.
    """

    def __init__(self, task: Task, teaching: Teaching, *, average: Average | None = None) -> None:
        self.task, self.average, self.precision = task, average, teaching.precision
        given = (average.model,) if average else teaching.models or (task.model,)
        shares = torch.tensor(teaching.shares or (1.0,) * len(given))
        self.shares = shares / shares.sum()  # (teachers,)
        self.hashes = () if average else tuple(values_hash(model) for model in given)
        self.models = tuple(lightened(model, teaching.precision) for model in given)
        self.bytes = tuple(sum(map(parameter_bytes, some)) for some in (given, self.models))

    def answers(self, batch: Batch) -> Tensor:
        """Outputs of all of them, (teachers, N, ...)."""
        return self.taught(batch, ())[0]

    def taught(self, batch: Batch, places: Iterable[str]) -> tuple[Tensor, dict[str, Any]]:
        """Outputs of all of them, and what is at some places of the first."""
        self._stand_by(batch)
        seen: dict[str, Any] = {}
        outputs = []
        for number, model in enumerate(self.models):
            with evaluating(model), recorded(model, () if number else places) as found:
                outputs.append(self.task.predict(model, batch.inputs))
            seen = seen or found
        return torch.stack(outputs), seen

    def _stand_by(self, batch: Batch) -> None:
        """Copies of the teachers where the batch is, if they are elsewhere."""
        device = flatten_tensors(batch.inputs)[0].device
        for number, model in enumerate(self.models):
            weight = next(model.parameters(), None)
            if weight is not None and weight.device != device:
                moved = copy.deepcopy(model).to(device)
                self.models = (*self.models[:number], moved, *self.models[number + 1 :])
        self.shares = self.shares.to(device)
