"""What is learned from: training examples, batch by batch, in an order that any step can name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch

from lilliput.batches import Batch, Example, cut, shapes
from lilliput.errors import TrainingError
from lilliput.splits import Split
from lilliput.task import Task

POOL = 8  # batches whose examples are sorted by size before they are cut: padding costs time
_MIX = 0x9E3779B97F4A7C15  # spreads neighbouring numbers (SplitMix64)


def mixed_seed(*numbers: int) -> int:
    """A seed in [0, 2^32) from several numbers."""
    state = 0
    for number in numbers:
        state = ((state ^ number) * _MIX + 0xD1B54A32D192ED03) % 2**64
        state ^= state >> 29
    return state >> 32


@dataclass(frozen=True, eq=False)
class Material:
    """Training examples; see `material_of`.

    Attributes:
        task: A task whose examples are those that train.
        places: Which of them, in the order of the task.
        labelled: Whether their targets are learned from; else some may have none.
        notes: What was left out.
    """

    task: Task
    places: tuple[int, ...]
    labelled: bool
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    def per_epoch(self, size: int) -> int:
        """Steps of an epoch with `size` examples each; what is over waits for another epoch."""
        return max(1, len(self) // size)

    def examples(self, step: int, *, size: int, seed: int) -> list[Example]:
        """The examples of one step: those of each epoch in an order of its own.

        Where inputs are padded, those of one step are of similar size.
        """
        steps = self.per_epoch(size)
        epoch, place = divmod(step, steps)
        order: Sequence[int] = _order(len(self), mixed_seed(seed, epoch))
        if self.sizes:
            place = _order(steps, mixed_seed(seed, epoch, 1))[place]
            start = place // POOL * POOL
            pool = order[start * size : min(start + POOL, steps) * size]
            order, place = sorted(pool, key=self.sizes.__getitem__), place - start
        chosen = order[place * size : (place + 1) * size]
        return [self.example(self.places[one]) for one in chosen]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers the input of every example has; empty where none is padded."""
        if not (any(self.task.varying()) and self.task.pads(self.task.example(0).input)):
            return ()
        inputs = (self.task.example(place).input for place in self.places)
        return tuple(sum(int(np.prod(shape)) for shape in shapes(one)) for one in inputs)

    def example(self, place: int) -> Example:
        """The example at a place of the task; without its target where none is needed."""
        found = self.task.example(place)
        return found if self.labelled else replace(found, target=None)

    def batches(self, examples: Sequence[Example], size: int) -> Iterator[Batch]:
        """Examples in batches of at most `size`, those of one length together where none pads."""
        alike = len({shapes(example.input) for example in examples}) <= 1
        if alike or self.task.pads(examples[0].input):
            for start in range(0, len(examples), size):
                yield self.task.batch(examples[start : start + size])
        else:
            for group in cut(list(examples), size, pads=False):
                yield self.task.batch(group)


@lru_cache(maxsize=4)
def _order(count: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randperm(count, generator=generator).tolist())


def material_of(task: Task, *, split: Split, labelled: bool, use: str) -> Material:
    """A task's training examples, without those by which it is judged.

    Args:
        task: Its `train`; without labels also its calibration examples.
        split: What is held out to steer and to judge.
        labelled: Whether targets are needed.
        use: What needs them, for messages.

    Raises:
        TrainingError: There are none.
    """
    if task.train is None and labelled:
        raise TrainingError(
            f"{use} needs labelled training examples, and the task has none",
            "give Task(train=...); distilling and light recovery need no labels",
        )
    if task.train is None:
        return _calibrating(task, split, use)
    pupil = replace(
        task, examples=task.train, calibration=None, search=None, proof=None, group=None
    )
    judged = {task.fingerprint(place) for place in (*split.search, *split.proof)}
    places = tuple(i for i in range(len(pupil)) if pupil.fingerprint(i) not in judged)
    if not places:
        raise TrainingError(
            f"{use} has no training examples left: all of them also steer or prove",
            "give other examples as train",
        )
    if labelled and pupil.example(places[0]).target is None:
        raise TrainingError(f"{use} needs a target for every training example")
    out = len(pupil) - len(places)
    notes = (
        (f"{out} of {len(pupil)} training examples also steer or prove: they were left out",)
        if out
        else ()
    )
    return Material(pupil, places, labelled, notes)


def _calibrating(task: Task, split: Split, use: str) -> Material:
    if not split.calibration:
        raise TrainingError(f"{use} needs examples to learn from", "give Task(train=...)")
    note = "the task has no training examples: it learned from the calibration examples"
    return Material(task, split.calibration, False, (note,))
