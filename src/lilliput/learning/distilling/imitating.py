"""The lesson of distillation: losses between a student and its teachers, batch by batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.batches import Batch
from lilliput.learning.distilling.comparing import Answer, Compared, Imitation, Pairs, feature_error
from lilliput.learning.distilling.features import Projections, at_places, recorded
from lilliput.learning.distilling.imitation import Blocks, Features, mixes_targets
from lilliput.learning.distilling.kept_answers import KeptAnswers
from lilliput.learning.distilling.teachers import Teachers
from lilliput.learning.lesson import Lesson, Targets, mixed_loss
from lilliput.outputs import pick_output
from lilliput.task import Task


class Imitating(Lesson):
    """Learns from teachers.

    Args:
        task: How models are called; its loss, where targets are mixed in.
        student: The module that is trained; it may be called through a wrapped one.
        losses: With their pairs of places.
        teachers: Who answers.
        answer: What the outputs are.
        seed: Of the projections' first weights.
    """

    use = "distillation"

    def __init__(
        self,
        task: Task,
        student: nn.Module,
        *,
        losses: tuple[Imitation, ...],
        teachers: Teachers,
        answer: Answer,
        seed: int = 0,
    ) -> None:
        self.task, self.student, self.teachers = task, student, teachers
        self.losses, self.answer = losses, answer
        self.labelled = mixes_targets(losses)
        self.kept: KeptAnswers | None = None
        self._done = 0.0
        pairs = [pair for loss in losses for pair in loss.pairs]
        self.taught = tuple(dict.fromkeys(pair[0] for pair in pairs))
        self.learned = tuple(dict.fromkeys(pair[1] for pair in pairs))
        self.projections = self._projections(seed)

    def described(self) -> Mapping[str, Any]:
        """Losses and teachers tell one run from another."""
        average = self.teachers.average
        return {
            "use": self.use,
            "losses": self.losses,
            "teachers": self.teachers.hashes,
            "shares": self.teachers.shares.tolist(),
            "teachers in": self.teachers.precision,
            "student's average": average.decay if average else 0.0,
        }

    def extra(self) -> nn.Module | None:
        """The projections, and the student's average where it teaches."""
        parts = {"projections": self.projections, "average": self.teachers.average}
        held = {name: part for name, part in parts.items() if part is not None}
        return nn.ModuleDict(held) if held else None

    def before(self, model: nn.Module, share: float) -> None:
        """The average follows; blocks take turns."""
        self._done = share
        if self.teachers.average is not None:
            self.teachers.average.follow(model)

    def loss(self, model: nn.Module, batch: Batch, *, targets: Targets) -> Tensor:
        """The weighted sum of the losses; while blocks take turns, of one pair alone."""
        with recorded(self.student, self.learned) as learned:
            outputs = self.task.predict(model, batch.inputs)
        if self.kept is not None:
            taught: dict[str, Any] = {}
            answers = self.kept.answers(batch).to(outputs.device)
        else:
            answers, taught = self.teachers.taught(batch, self.taught)
        seen = Compared(
            outputs=outputs,
            answers=answers,
            shares=self.teachers.shares,
            answer=self.answer,
            mask=batch.mask,
            told=lambda: mixed_loss(self.task, outputs, targets=targets),
            taught=taught,
            learned=learned,
            project=self.projections,
        )
        turn = self._turn()
        if turn is not None:
            # Several processes expect a gradient of every weight.
            alone = feature_error(seen, turn)
            return alone if model is self.student else alone + 0 * outputs.sum()
        return torch.stack([loss.weight * loss.loss(seen) for loss in self.losses]).sum()

    def _turn(self) -> tuple[str, str] | None:
        for loss in self.losses:
            if isinstance(loss, Blocks) and (turn := loss.turn(self._done)) is not None:
                return loss.pairs[turn]
        return None

    def _projections(self, seed: int) -> Projections | None:
        """Maps for the pairs whose features are compared number by number."""
        pairs: Pairs = tuple(
            dict.fromkeys(
                pair
                for loss in self.losses
                if isinstance(loss, Features | Blocks)
                for pair in loss.pairs
            )
        )
        if not pairs:
            return None
        inputs = self.task.sample(2)
        models = (self.student, self.teachers.models[0])
        ends = [
            at_places(self.task, model, inputs=inputs, places=places)
            for model, places in zip(models, (self.learned, self.taught), strict=True)
        ]
        shapes = {
            pair: (pick_output(ends[0][pair[1]]).shape, pick_output(ends[1][pair[0]]).shape)
            for pair in pairs
        }
        mask = self.task.mask_of(inputs)
        return Projections(shapes, mask=None if mask is None else mask.shape, seed=seed)
