"""What a student imitates: the losses of distillation, each a frozen value."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from lilliput.errors import TrainingError
from lilliput.learning.distilling.comparing import (
    Answer,
    Compared,
    Pairs,
    check_imitation,
    feature_error,
)
from lilliput.scoring import move_classes
from lilliput.tensor.imitation import (
    angles,
    answer_divergence,
    distances,
    mean_over,
    softened,
)


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The teacher's answers: KL divergence of classes, squared error of numbers.

    Class scores (N, C), (N, T, C) or (N, C, H, W); padded positions are left out. The divergence
    is multiplied with the temperature's square, so that gradients keep their size. Several
    teachers are averaged: probabilities of classes, else numbers.

    Attributes:
        temperature: Above 0; above 1 the teacher's small probabilities count more.
        targets: Share of the task's own loss on the targets in the mixture, [0, 1]; above 0 every
            training example needs a target.
        answer: What the outputs are; ``auto`` sees by targets, metric and values.
        weight: Above 0.
    """

    source: ClassVar[str] = "Hinton, Vinyals and Dean 2015, arXiv 1503.02531"

    temperature: float = 4.0
    targets: float = 0.0
    answer: Literal["auto"] | Answer = "auto"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_imitation(self)
        known = ("auto", *get_args(Answer))
        if self.answer not in known:
            raise TrainingError(f"there is no answer {self.answer!r}", f"one of {', '.join(known)}")

    @property
    def pairs(self) -> Pairs:
        """None: outputs are compared."""
        return ()

    def loss(self, seen: Compared) -> Tensor:
        """The mixture over the examples, or positions, of a batch."""
        if not self.targets:
            return self._imitated(seen)
        if seen.told is None:
            raise TrainingError("targets are mixed in, and there are none", "give targets=0")
        return (1 - self.targets) * self._imitated(seen) + self.targets * seen.told()

    def _imitated(self, seen: Compared) -> Tensor:
        if seen.answer == "numbers":
            wanted = torch.tensordot(seen.shares, seen.answers.float(), 1)
            errors = (seen.outputs.float() - wanted).square()
            counted = seen.counted(errors)
            return mean_over(errors if counted is None else errors.flatten(2).mean(2), counted)
        probable = seen.answer == "probabilities"
        scores = torch.stack([move_classes(one) for one in seen.answers])
        each = softened(scores, self.temperature, probabilities=probable).exp()
        wanted = torch.tensordot(seen.shares, each, 1)
        got = softened(move_classes(seen.outputs), self.temperature, probabilities=probable)
        counted = seen.counted(got[..., 0])
        return self.temperature**2 * answer_divergence(got, wanted, counted=counted)


@dataclass(frozen=True, kw_only=True)
class Features:
    """Hidden features: squared error over the teacher's squared size, so it starts near 1.

    Where widths differ, the student's go through a projection that learns along and is thrown
    away: linear, or a 1x1 convolution; larger maps are averaged down to the smaller ones.

    Attributes:
        pairs: Places (teacher's, student's): names of modules whose output counts, or with
            ``:input`` behind whose input does. By default they are found: modules of equal names,
            else blocks matched evenly, else what the heads are given.
        weight: Above 0.
    """

    source: ClassVar[str] = "FitNets: Romero et al. 2015, arXiv 1412.6550"

    pairs: Pairs = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_imitation(self)

    def loss(self, seen: Compared) -> Tensor:
        """The mean over the pairs."""
        return torch.stack([feature_error(seen, pair) for pair in self.pairs]).mean()


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Layer by layer: the student's blocks learn the teacher's features one after the other.

    For the first `share` of the steps nothing else is learned, and each pair has an equal stretch
    of them, in order; afterwards all pairs count together, beside the other losses.

    Attributes:
        share: Of the steps, (0, 1].
        pairs: As in `Features`.
        weight: Above 0; of the steps after `share`.
    """

    source: ClassVar[str] = "the hints of FitNets, arXiv 1412.6550, for each block in turn"

    share: float = 0.5
    pairs: Pairs = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_imitation(self)

    def turn(self, done: float) -> int | None:
        """Which pair learns at this share of the run, in [0, 1); None once all do."""
        return int(done / self.share * len(self.pairs)) if done < self.share else None

    def loss(self, seen: Compared) -> Tensor:
        """The mean over all pairs."""
        return torch.stack([feature_error(seen, pair) for pair in self.pairs]).mean()


@dataclass(frozen=True, kw_only=True)
class Relations:
    """How examples of a batch lie to each other: distances, and angles in triples.

    Huber losses; it needs no equal widths. Work grows with the batch size's third power.

    Attributes:
        distance: Weight of the distances, at least 0.
        angle: Weight of the angles, at least 0.
        pairs: As in `Features`; by default the outputs.
        weight: Above 0.
    """

    source: ClassVar[str] = "Relational distillation: Park et al. 2019, arXiv 1904.05068"

    distance: float = 1.0
    angle: float = 2.0
    pairs: Pairs = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_imitation(self)
        if not self.distance and not self.angle:
            raise TrainingError("distance and angle are both 0", "one of them must count")

    def loss(self, seen: Compared) -> Tensor:
        """The mean over the pairs; of a batch of one example zero."""
        ends = [seen.features(pair) for pair in self.pairs]
        if not ends:
            wanted = torch.tensordot(seen.shares, seen.answers.float(), 1)
            ends = [(seen.outputs.float(), wanted)]
        return torch.stack([self._between(seen, *both) for both in ends]).mean()

    def _between(self, seen: Compared, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = (_embedded(one, seen) for one in (student, teacher))
        found = 0 * student.sum()
        for weight, relation in ((self.distance, distances), (self.angle, angles)):
            if weight:
                found = found + weight * F.smooth_l1_loss(relation(student), relation(teacher))
        return found


def mixes_targets(losses: Iterable[object]) -> bool:
    """Whether one of them learns from targets too."""
    return any(isinstance(loss, Logits) and loss.targets > 0 for loss in losses)


def _embedded(features: Tensor, seen: Compared) -> Tensor:
    """(N, F) of each example: means over positions that count, else all flattened."""
    counted = seen.counted(features)
    if counted is None or features.ndim != 3:
        return features.flatten(1)
    real = counted.to(features.dtype)[..., None]
    return (features * real).sum(1) / real.sum(1).clamp(min=1)
