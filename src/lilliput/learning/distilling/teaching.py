"""Who teaches, as a frozen value."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from lilliput.errors import TrainingError
from lilliput.learning.distilling.light_weights import Precision

Keep = Literal["no", "memory"] | Path


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Who teaches, and how what they say is come by.

    Attributes:
        models: The teachers, in the place of the task's model; it may be among them.
        shares: How much each of them counts, above 0; by default all alike.
        average: Decay of the student's own average of weights, which teaches instead, [0, 1); 0
            for none (mean teacher: Tarvainen and Valpola 2017, arXiv 1703.01780).
        precision: What the teachers' weights are kept in; they compute in float32.
        keep: ``memory``, or a folder: the teachers answer every example once, before the first
            step, and these answers are learned from; inputs must not change then, by augmentation
            or otherwise. ``no``: they answer every batch anew.
        most_bytes: Answers that need more are not kept, and a note says so; at least 1.

    Raises:
        TrainingError: A value is out of range, or two do not go together.
    """

    models: tuple[nn.Module, ...] = ()
    shares: tuple[float, ...] = ()
    average: float = 0.0
    precision: Precision = "float32"
    keep: Keep = "no"
    most_bytes: int = 2**30

    def __post_init__(self) -> None:
        for model in self.models:
            if not isinstance(model, nn.Module):
                raise TrainingError(f"a teacher is a torch.nn.Module, got {type(model).__name__}")
        if self.shares and len(self.shares) != len(self.models):
            raise TrainingError(f"{len(self.shares)} shares for {len(self.models)} teachers")
        if not all(0 < share < math.inf for share in self.shares):
            raise TrainingError(f"shares = {self.shares} are out of range", "allowed is (0, inf)")
        if not 0 <= self.average < 1:
            raise TrainingError(f"average = {self.average:g} is out of range", "allowed is [0, 1)")
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise TrainingError(f"there is no precision {self.precision!r}", f"one of {known}")
        if not isinstance(self.keep, Path) and self.keep not in ("no", "memory"):
            raise TrainingError(f"keep = {self.keep!r} is unknown", "no, memory, or a Path")
        if self.most_bytes < 1:
            raise TrainingError(f"most_bytes = {self.most_bytes} is out of range", "at least 1")
        self._check_average()

    def _check_average(self) -> None:
        if not self.average:
            return
        if self.models:
            raise TrainingError("average and models both say who teaches", "give one of them")
        if self.precision != "float32" or self.keep != "no":
            raise TrainingError(
                "the student's average changes at every step",
                "keep='no' and precision='float32' go with it",
            )
