"""What modules give and are given while a model runs, and how widths are made equal."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.batches import Inputs, flatten_tensors
from lilliput.errors import TrainingError
from lilliput.evaluation import evaluating
from lilliput.learning.distilling.comparing import averaged_down
from lilliput.task import Task

INPUT = ":input"  # behind a module's name: what it is given, not what it gives


@contextmanager
def recorded(model: nn.Module, places: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What is at some places of a model while it runs in the block; of several calls the last.

    Args:
        model: As it was afterwards.
        places: Names of modules; with ``:input`` behind what they are given.
    """
    seen: dict[str, Any] = {}
    modules = dict(model.named_modules())
    hooks = [_hook(modules[place.removesuffix(INPUT)], place, seen) for place in places]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _hook(module: nn.Module, place: str, seen: dict[str, Any]) -> Any:
    def gave(_: nn.Module, args: tuple[Any, ...], given: Any, raw: Any) -> None:
        seen[place] = raw

    def given(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen[place] = (args, named)

    if place.endswith(INPUT):
        return module.register_forward_pre_hook(given, with_kwargs=True)
    return module.register_forward_hook(gave, with_kwargs=True)


def outputs_of(task: Task, model: nn.Module, *, inputs: Inputs) -> dict[str, Any]:
    """What every module of a model gives on one batch, in the order in which they end."""
    names = [name for name, _ in model.named_modules() if name]
    with evaluating(model), recorded(model, names) as seen:
        task.run(model, inputs)
    return seen


def at_places(
    task: Task, model: nn.Module, *, inputs: Inputs, places: Iterable[str]
) -> dict[str, Any]:
    """What is at some places of a model on one batch.

    Raises:
        TrainingError: A place is not reached, or no tensor is there.
    """
    places = tuple(dict.fromkeys(places))
    with evaluating(model), recorded(model, places) as seen:
        task.run(model, inputs)
    for place in places:
        if place not in seen or not flatten_tensors(seen[place]):
            reason = "gives no tensor" if place in seen else "is not called when the model runs"
            raise TrainingError(f"{place} {reason}", "name another module")
    return seen


class Projections(nn.Module):
    """Maps from the student's features to the teacher's widths; they learn along.

    Args:
        shapes: Pair of places -> shapes of the features of student and teacher, (N, ...).
        mask: Shape of the mask, (N, T); None without.
        seed: Of the first weights.

    Raises:
        TrainingError: Features that have no counterpart.
    """

    def __init__(
        self,
        shapes: Mapping[tuple[str, str], tuple[torch.Size, torch.Size]],
        *,
        mask: torch.Size | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.axes: dict[tuple[str, str], int] = {}
        self.maps = nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for pair, (student, teacher) in shapes.items():
                self.axes[pair] = _channels(pair, student, teacher, mask=mask)
                axis = self.axes[pair]
                if student[axis] != teacher[axis]:
                    self.maps[_key(pair)] = _map(student[axis], teacher[axis], axis, len(student))

    def __call__(
        self, pair: tuple[str, str], student: Tensor, teacher: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features of student and teacher at a pair of places, both of one shape."""
        if _key(pair) in self.maps:
            student = self.maps[_key(pair)](student)
        if self.axes[pair] == 1 and student.ndim > 2:
            smallest = tuple(map(min, student.shape[2:], teacher.shape[2:]))
            student, teacher = averaged_down(student, smallest), averaged_down(teacher, smallest)
        return student, teacher


def _key(pair: tuple[str, str]) -> str:
    return " to ".join(place.replace(".", "/") for place in reversed(pair))


def _channels(
    pair: tuple[str, str], student: torch.Size, teacher: torch.Size, *, mask: torch.Size | None
) -> int:
    """The axis of the channels: the last of (N, F) and (N, T, F), else the second."""
    if len(student) != len(teacher) or len(student) < 2 or len(student) > 5:
        raise TrainingError(
            f"{pair[0]} of the teacher is {tuple(teacher)}, {pair[1]} of the student "
            f"{tuple(student)}: they cannot be compared",
            "name other pairs=((teacher's, student's), ...)",
        )
    if len(student) == 2:
        return 1
    sequence = len(student) == 3 and student[1] == teacher[1]
    if sequence and (mask is None or student[:2] == mask):
        return -1
    return 1


def _map(inputs: int, outputs: int, axis: int, axes: int) -> nn.Module:
    if axis == -1 or axes == 2:
        return nn.Linear(inputs, outputs)
    kind = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[axes]
    return kind(inputs, outputs, 1)
