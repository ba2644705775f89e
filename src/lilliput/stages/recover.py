"""recover: the compressed model learns, under its constraints, to answer as the original does."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lilliput.errors import TrainingError
from lilliput.learning.constraints.constrained import Constrained
from lilliput.learning.constraints.restated_norms import can_restate, restate_norms
from lilliput.learning.learned import Learned
from lilliput.learning.lesson import Lesson
from lilliput.learning.loop import Surroundings, learn
from lilliput.learning.material import Material, material_of
from lilliput.learning.recovering import Nearness, Recovering
from lilliput.learning.recovery import Recover
from lilliput.learning.squeezing import Squeezing, WhenSmall
from lilliput.learning.watching import Watch
from lilliput.metrics import Metric
from lilliput.model.encodings import Encoding, Grid
from lilliput.splits import Split
from lilliput.task import Task

DIVERGENCE, DIVERGENCE_EXAMPLES = "divergence", 256
USE = "full recovery"
MOST_NEAR = 0.5  # share of labels up to which being near the original is the aim


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What recovery stands on.

    Attributes:
        task: What must keep working, over the model whose weights were compressed.
        original: The same over the user's model.
        split: Calibration and search examples.
        metric: The task's metric; None without examples.
        only: Parameters that the artifact can take new values of; None for all.
        sparse: Parameters whose zeros were removed and stay zero.
        seed: Of the order of examples, and dropout.
    """

    task: Task
    original: Task
    split: Split
    metric: Metric | None
    only: Set[str] | None = None
    sparse: Set[str] = frozenset()
    seed: int = 0


@dataclass(frozen=True)
class Recovered:
    """What recovery made.

    Attributes:
        encodings: What the parameters became; `Dense` for biases and norms that changed.
        learned: How it got there. The first moment of its history is before any step.
        watched: By what the best was chosen: ``divergence``, or the metric's name.
        labels: Share of the task's own loss; 0 where there were no targets.
    """

    encodings: dict[str, Encoding]
    learned: Learned
    watched: str
    labels: float = 0.0

    @property
    def better(self) -> bool:
        """Whether any moment on search examples was better than before the first step."""
        return self.learned.best.step > 0


def recover(
    encodings: Mapping[str, Encoding],
    how: Recover,
    *,
    ground: Ground,
    around: Surroundings | None = None,
) -> Recovered:
    """Trains a copy of the model whose weights stay what their encodings say.

    Args:
        encodings: What each parameter became; they are not changed.
        how: Strength and length.
        ground: Model, examples, and what may change.
        around: Who is told; where state is kept.

    Raises:
        TrainingError: There is nothing to learn from, or nothing to watch by.
        CheckpointError, MissingExtraError, OutputError: See `learn`.
    """
    technique = how.technique
    light = technique.strength == "light"
    material = _material(ground, light=light)
    labels = technique.labels if material.labelled else 0.0
    watch, watched = _watch(ground, by_score=labels > MOST_NEAR)
    held = Constrained(
        ground.task.model,
        encodings,
        learn="scales" if light else "all",
        sparse=ground.sparse,
        only=ground.only,
        together=bool(technique.bits),
    )
    still = not can_restate(ground.task.model) or not _norms_ship(ground)
    lesson: Lesson = Recovering(material.task, ground.original.model, labels=labels)
    if technique.bits:
        lesson = Squeezing(lesson, held.model, bits=technique.bits)
        watch = WhenSmall(watch, technique.bits)
    learned = learn(
        held.model,
        lesson,
        material=material,
        training=_fitting(how, len(material)).training(seed=ground.seed, still_norms=still),
        watch=watch,
        around=around,
    )
    restate_norms(learned.model, ground.task.model)
    found = {**encodings, **held.encodings(learned.model)}
    return Recovered(found, learned, watched, labels)


def _material(ground: Ground, *, light: bool) -> Material:
    """Calibration inputs, or training examples, with targets where there are any."""
    if light:
        if not ground.split.calibration:
            raise TrainingError("light recovery needs calibration examples", "give examples")
        return Material(ground.task, ground.split.calibration, labelled=False)
    train = ground.task.train
    labelled = train is not None and len(train) > 0 and _has_target(train[0])
    return material_of(ground.task, split=ground.split, labelled=labelled, use=USE)


def _has_target(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and item[1] is not None


def _watch(ground: Ground, *, by_score: bool) -> tuple[Watch, str]:
    """What search examples are asked: the score where labels count most, else the divergence."""
    search, metric = ground.split.search, ground.metric
    if not search:
        raise TrainingError(
            "recovery needs search examples, which say whether it helped", "give examples"
        )
    if by_score and metric is not None and metric.reference == "targets":
        return Watch(ground.original, search, metric), metric.name
    return Nearness(ground.original, search[:DIVERGENCE_EXAMPLES]), DIVERGENCE


def _norms_ship(ground: Ground) -> bool:
    """Whether the artifact takes new weights and biases of every BatchNorm."""
    norms = [
        name
        for name, module in ground.task.model.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    return ground.only is None or all(
        f"{name}.{leaf}" in ground.only for name in norms for leaf in ("weight", "bias")
    )


def _fitting(how: Recover, examples: int) -> Recover:
    """With a batch no larger than all examples."""
    size = min(how.technique.batch_size, examples)
    return how if size == how.technique.batch_size else replace(how, batch_size=size)


def half_steps(
    encodings: Mapping[str, Encoding], factors: Mapping[str, Tensor]
) -> dict[str, Encoding]:
    """The encodings with steps of rows that fit half precision where they are stored.

    A learned step is any number and would cost four bytes; rounding it moves a weight by one part
    in two thousand.

    Args:
        encodings: By parameter.
        factors: What the export multiplies the rows of a parameter with, (rows,).
    """
    return {
        name: replace(found, row_steps=_halved(found.row_steps, factors.get(name)))
        if isinstance(found, Grid)
        else found
        for name, found in encodings.items()
    }


def _halved(steps: Tensor, factor: Tensor | None) -> Tensor:
    by = torch.ones_like(steps, dtype=torch.float64) if factor is None else factor.double()
    stored = steps.double() * by
    half = stored.half().double()
    size = stored.abs()
    fits = (size >= 2.0**-14) & (size <= torch.finfo(torch.float16).max)
    return torch.where(fits, half / by, steps.double()).float()
