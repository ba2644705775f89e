"""What a loss of distillation compares: one batch, as the student and its teachers saw it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor
from torch.nn import functional as F

from lilliput.errors import TrainingError
from lilliput.outputs import pick_output
from lilliput.tensor.imitation import relative_error

Pairs = tuple[tuple[str, str], ...]  # places in the teacher, places in the student
Answer = Literal["logits", "probabilities", "numbers"]
_RANGES: dict[str, tuple[str, float, float]] = {
    "weight": ("(0, inf)", math.ulp(0.0), math.inf),
    "temperature": ("(0, inf)", math.ulp(0.0), math.inf),
    "targets": ("[0, 1]", 0, 1),
    "distance": ("[0, inf)", 0, math.inf),
    "angle": ("[0, inf)", 0, math.inf),
    "share": ("(0, 1]", math.ulp(0.0), 1),
}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was seen of one batch.

    Attributes:
        outputs: The student's, (N, ...).
        answers: The teachers', (teachers, N, ...).
        shares: How much each teacher counts, (teachers,); they sum to 1.
        answer: What the outputs are.
        mask: (N, T), 1 = real position; None where nothing is padded.
        told: The task's loss on the targets; only called where it counts.
        taught: Place -> what the first teacher had there.
        learned: Place -> what the student had there.
        project: (pair, features of student, of teacher) -> both, of one shape.
    """

    outputs: Tensor
    answers: Tensor
    shares: Tensor
    answer: Answer
    mask: Tensor | None = None
    told: Callable[[], Tensor] | None = None
    taught: dict[str, Any] = field(default_factory=dict)
    learned: dict[str, Any] = field(default_factory=dict)
    project: Callable[[tuple[str, str], Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def features(self, pair: tuple[str, str]) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's at a pair of places, as they are."""
        student = pick_output(self.learned[pair[1]]).float()
        return student, pick_output(self.taught[pair[0]]).float()

    def matched(self, pair: tuple[str, str]) -> tuple[Tensor, Tensor]:
        """`features`, the student's projected to the teacher's shape."""
        student, teacher = self.features(pair)
        return (student, teacher) if self.project is None else self.project(pair, student, teacher)

    def counted(self, values: Tensor) -> Tensor | None:
        """The mask, where values (N, T, ...) have its positions."""
        fits = self.mask is not None and values.shape[:2] == self.mask.shape
        return self.mask if fits else None


class Imitation(Protocol):
    """A loss of distillation.

    Attributes:
        weight: What it is multiplied with.
        pairs: Places (in the teacher, in the student) that are compared.
        source: The paper.
    """

    source: ClassVar[str]

    @property
    def weight(self) -> float: ...  # noqa: D102
    @property
    def pairs(self) -> Pairs: ...  # noqa: D102

    def loss(self, seen: Compared) -> Tensor:
        """A scalar, not yet weighted."""
        ...


def feature_error(seen: Compared, pair: tuple[str, str]) -> Tensor:
    """Squared error of the student's projected features over the teacher's squared size."""
    student, teacher = seen.matched(pair)
    return relative_error(student, teacher, counted=seen.counted(teacher))


def averaged_down(features: Tensor, size: tuple[int, ...]) -> Tensor:
    """(N, C, ...) with its further axes averaged down to a size."""
    if features.shape[2:] == size:
        return features
    pool: dict[int, Any] = {
        1: F.adaptive_avg_pool1d,
        2: F.adaptive_avg_pool2d,
        3: F.adaptive_avg_pool3d,
    }
    found: Tensor = pool[len(size)](features, size)
    return found


def check_imitation(value: Any) -> None:
    """Refuses numbers out of range, and pairs that are none.

    Raises:
        TrainingError: Says which.
    """
    for one in fields(value):
        number = getattr(value, one.name)
        if one.name not in _RANGES:
            continue
        told, least, most = _RANGES[one.name]
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TrainingError(f"{one.name} must be a number, got {number!r}")
        if not least <= number <= most or not math.isfinite(number):
            raise TrainingError(f"{one.name} = {number:g} is out of range", f"allowed is {told}")
    for pair in value.pairs:
        if len(pair) != 2 or not all(isinstance(place, str) for place in pair):
            raise TrainingError(
                f"the pair {pair!r} does not name two places", "(in the teacher, in the student)"
            )
