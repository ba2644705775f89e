"""`prune`: a model is trained while weights are removed, in one run of the loop or in rounds."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lilliput.errors import TrainingError
from lilliput.learning.constraints.constraint import constrained
from lilliput.learning.learned import Learned
from lilliput.learning.lesson import Supervised
from lilliput.learning.loop import Surroundings, learn
from lilliput.learning.material import material_of
from lilliput.learning.thinning import Pruning, Thinning, ThinningLesson, without_smallest
from lilliput.learning.training import Training
from lilliput.learning.watching import Watch
from lilliput.model.encodings import Masked
from lilliput.task import Task
from lilliput.validation import check_task


@dataclass(frozen=True)
class Thinned:
    """A trained copy of which weights were removed.

    Attributes:
        learned: The copy, dense, with zeros; and how it got there.
        encodings: The same weights as `Masked`, by parameter.
    """

    learned: Learned
    encodings: dict[str, Masked]

    @property
    def removed(self) -> float:
        """Share of the weights that are gone."""
        masks = [encoding.mask for encoding in self.encodings.values()]
        return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


class _WhenThin(Watch):
    """Scores only what has lost all it shall lose: earlier moments are no candidates."""

    def __init__(self, watch: Watch, remove: float) -> None:
        super().__init__(watch.task, watch.subset, watch.metric)
        self.remove = remove

    def __call__(self, model: nn.Module) -> float:
        held = [one for one, _ in constrained(model).values() if isinstance(one, Thinning)]
        return super().__call__(model) if float(held[0].gone) >= self.remove else float("nan")


def prune(
    task: Task,
    pruning: Pruning | None = None,
    *,
    training: Training | None = None,
    around: Surroundings | None = None,
) -> Thinned:
    """Trains a copy of the task's model while its smallest weights are removed.

    Args:
        task: With `train`. Its model is left as it was.
        pruning: How much, and when; by default nine tenths, gradually.
        training: How one learns; of ``rewound`` pruning, in each round.
        around: Folder for checkpoints (one per round), and who is told.

    Raises:
        TaskError: The model, the loss or the targets do not fit together.
        TrainingError: There are no training examples, no weight to remove, or the training cannot
            go on.
        CheckpointError, OutputError: See `learn`.
    """
    pruning, training = pruning or Pruning(), training or Training()
    course = _Course(task, pruning, training, around or Surroundings())
    model = copy.deepcopy(task.model).requires_grad_(True)
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in _weights(model).items()}
    if pruning.schedule != "rewound":
        return course.round(model, masks, pruning, "")
    if pruning.early:
        steps = replace(training, epochs=None, minutes=None, steps=pruning.early, warmup=0.0)
        model = course.trained(model, replace(steps, schedule="constant"), "early")
    last = course.round(model, masks, None, "round-0")
    for number in range(1, pruning.rounds + 1):
        share = pruning.after_round(number)
        last = course.round(model, _smallest(last, share), None, f"round-{number}")
    return last


class _Course:
    """The runs of the loop that one pruning takes."""

    def __init__(
        self, task: Task, pruning: Pruning, training: Training, around: Surroundings
    ) -> None:
        self.task, self.training, self.around = task, training, around
        self.lesson = Supervised(task)
        split = task.split(training.seed)
        self.material = material_of(task, split=split, labelled=True, use="pruning")
        self.watch = Watch.of(task, subset=split.search, metric=check_task(task))

    def trained(self, model: nn.Module, training: Training, name: str) -> nn.Module:
        """The model after a first training, whatever its score."""
        model = copy.deepcopy(model)
        learned = learn(
            model, self.lesson, material=self.material, training=training, around=self._in(name)
        )
        return learned.model

    def round(
        self, model: nn.Module, masks: Mapping[str, Tensor], pruning: Pruning | None, name: str
    ) -> Thinned:
        """One run: with these masks from the beginning, and what the schedule removes then."""
        model = copy.deepcopy(model)
        for weight, mask in masks.items():
            place, _, leaf = weight.rpartition(".")
            module = model.get_submodule(place)
            thinning = Thinning(getattr(module, leaf), mask)
            parametrize.register_parametrization(module, leaf, thinning)
        watch = self.watch
        if watch is not None and pruning is not None:
            watch = _WhenThin(watch, pruning.remove)
        learned = learn(
            model,
            self.lesson if pruning is None else ThinningLesson(self.lesson, pruning),
            material=self.material,
            training=self.training,
            watch=watch,
            around=self._in(name),
        )
        return _dense(learned)

    def _in(self, name: str) -> Surroundings:
        folder = self.around.folder
        return replace(self.around, folder=folder / name if folder and name else folder)


def _dense(learned: Learned) -> Thinned:
    """The trained model without parametrizations, and its masks."""
    found = constrained(learned.model)
    encodings = {
        name: one.encoding(*latents)
        for name, (one, latents) in found.items()
        if isinstance(one, Thinning)
    }
    for name in encodings:
        place, _, leaf = name.rpartition(".")
        parametrize.remove_parametrizations(learned.model.get_submodule(place), leaf)
    return Thinned(learned, encodings)


def _smallest(found: Thinned, share: float) -> dict[str, Tensor]:
    """Masks without the smallest weights of a trained model."""
    weights = [encoding.weight for encoding in found.encodings.values()]
    return dict(zip(found.encodings, without_smallest(weights, share), strict=True))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that can be thinned: those with two axes or more."""
    found: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.ndim > 1}
    if not found:
        raise TrainingError("the model has no weight that could be pruned")
    return found
