"""The output's mean is given back: rounding moves it, and one bias can take that away again.

Many small errors add up to a shift of the output, the same for all examples, that tips close
decisions to one side. Where a bias is added to the output last, it absorbs the mean shift on the
calibration examples (bias correction: Nagel et al. 2019, arXiv 1906.04721). No label is used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lilliput.model.calls import answer
from lilliput.model.encodings import Dense, Encoding, decoded
from lilliput.model.profiles import Profile
from lilliput.splits import Split
from lilliput.task import Task

MOST_EXAMPLES = 512
BATCH = 32


@dataclass
class Recentring:
    """Moves the last bias so that the mean output on calibration examples is the original's.

    Args:
        task: Its model and its calibration examples.
        name: The bias that is added to the output; see `output_bias`.
        subset: Calibration examples.
        original: The task whose mean output is wanted.
    """

    task: Task
    name: str
    subset: tuple[int, ...]
    original: Task
    _wanted: Tensor | None = None

    @classmethod
    def of(
        cls, task: Task, profile: Profile, *, split: Split, original: Task | None = None
    ) -> "Recentring | None":
        """None where no bias is added to the output last, or nothing calibrates.

        Args:
            task: The task over the model whose weights change.
            profile: Its weights.
            split: The calibration examples count.
            original: The task over the model whose mean output is wanted, if that is another.
        """
        stride = max(1, len(split.calibration) // MOST_EXAMPLES)
        subset = tuple(split.calibration[::stride])
        name = output_bias(task, profile) if subset else None
        return None if name is None else cls(task, name, subset, original or task)

    def __call__(self, encodings: Mapping[str, Encoding]) -> dict[str, Encoding]:
        """The encodings with the bias moved, in half precision where it was."""
        if self._wanted is None:
            self._wanted = self._mean(self.original, {})
        values = decoded(encodings, self.task.model)
        bias = values.get(self.name, dict(self.task.model.named_parameters())[self.name].detach())
        moved = bias.double() + self._wanted - self._mean(self.task, values)
        if not bool(torch.isfinite(moved).all()):
            return dict(encodings)
        if self.name in encodings:
            moved = moved.half()
        return {**encodings, self.name: Dense(moved.to(bias.dtype))}

    def _mean(self, task: Task, values: Mapping[str, Tensor]) -> Tensor:
        """Mean output over examples and positions, padding left out, (classes,) float64."""
        total, count = torch.zeros(1, dtype=torch.float64), 0.0
        for output in self._outputs(task, values):
            total = total + output.sum(0)
            count += len(output)
        return total / max(count, 1.0)

    def _outputs(self, task: Task, values: Mapping[str, Tensor]) -> Iterator[Tensor]:
        for batch in task.batches(self.subset, BATCH):
            output = answer(task, batch.inputs, replaced=values).double()
            if batch.mask is not None and output.ndim > 2 and output.shape[:2] == batch.mask.shape:
                yield output[batch.mask.bool()].flatten(0, -2)
            else:
                yield output.flatten(0, -2)


def output_bias(task: Task, profile: Profile) -> str | None:
    """The parameter that is added to the output last: moving it moves every output by as much."""
    inputs = task.sample(2)
    before = answer(task, inputs, replaced={})
    if before.ndim < 2 or not before.is_floating_point():
        return None
    for name, value in reversed(list(profile.parameters.items())):
        if name in profile.sites or value.shape != before.shape[-1:]:
            continue
        moved = torch.linspace(0.5, 1.0, len(value), dtype=value.dtype)
        after = answer(task, inputs, replaced={name: value + moved})
        if after.shape == before.shape and torch.allclose(
            after - before, moved.expand_as(before), atol=1e-3
        ):
            return name
    return None
