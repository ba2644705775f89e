"""A task's model after it has learned, as a folder: what `lilliput finetune` and its kin write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lilliput.folders import fresh_folder
from lilliput.learning import (
    Learned,
    Moment,
    Reach,
    Study,
    Surroundings,
    Training,
    Tuned,
    distill,
    finetune,
    tune,
)
from lilliput.learning.checkpoints import forget
from lilliput.progress import unseen
from lilliput.reshaping import Output, Saved, save_reshaped
from lilliput.runtime.onnx_export import Dynamic
from lilliput.shapes.graphmodel import GraphModel
from lilliput.shapes.reshaped import Reshaped
from lilliput.task import Task

SETTINGS = "training.toml"  # how it learned: `lilliput finetune --settings` reads it
CHECKPOINTS = ".training"  # what the folder of checkpoints is called after the output folder


@dataclass(frozen=True)
class Taught:
    """A model that has learned, and its files.

    Attributes:
        history: Every evaluation on search examples.
        best: The one whose weights were kept.
        steps: Updates of the weights.
        seconds_per_step: Median.
        notes: What the user should know.
        parameters: Of the original and of the model that has learned.
        files: Name -> bytes.
        reloads: Whether `lilliput.load` gives an instance of the user's class.
    """

    history: tuple[Moment, ...]
    best: Moment
    steps: int
    seconds_per_step: float
    notes: tuple[str, ...]
    parameters: tuple[int, int]
    files: dict[str, int]
    reloads: bool


def finetune_task(
    task: Task,
    output: Output,
    *,
    training: Training,
    reach: Reach,
    classes: int | None = None,
    said: Callable[[str], None] = unseen,
) -> Taught:
    """Trains on, see `finetune`, and writes the files. An interrupted run goes on.

    Raises:
        OutputError: The folder may not be written.
        CheckpointError, TaskError, TrainingError: As `finetune`.
    """
    return taught(
        task,
        output,
        learn=lambda around: finetune(
            task, training=training, reach=reach, classes=classes, around=around
        ),
        said=said,
    )


def distill_task(
    task: Task,
    output: Output,
    *,
    student: nn.Module | float | str,
    said: Callable[[str], None] = unseen,
    **options: Any,
) -> Taught:
    """Trains a student, see `distill`, and writes the files. An interrupted run goes on.

    Args:
        task: Its model teaches.
        output: Where the files go.
        student: As in `distill`.
        said: Told every line worth telling.
        **options: ``losses``, ``teaching`` and ``training`` of `distill`.

    Raises:
        OutputError: The folder may not be written.
        CheckpointError, ShapeError, TaskError, TrainingError: As `distill`.
    """
    return taught(
        task,
        output,
        learn=lambda around: distill(task, student=student, around=around, **options),
        base=student if isinstance(student, nn.Module) else None,
        said=said,
    )


def tune_task(
    task: Task,
    output: Output,
    *,
    study: Study,
    training: Training,
    build: Callable[[], nn.Module] | None = None,
    said: Callable[[str], None] = unseen,
) -> tuple[Taught, Tuned]:
    """Tunes, see `tune`, and writes what the best trial learned. The study is kept beside it.

    Raises:
        OutputError: The folder may not be written.
        CheckpointError, TaskError, TrainingError: As `tune`.
    """
    found: list[Tuned] = []

    def learn(around: Surroundings) -> Learned:
        found.append(tune(task, study=study, training=training, build=build, around=around))
        return found[0].learned

    return taught(task, output, learn=learn, said=said), found[0]


def taught(
    task: Task,
    output: Output,
    *,
    learn: Callable[[Surroundings], Learned],
    base: nn.Module | None = None,
    said: Callable[[str], None] = unseen,
) -> Taught:
    """Lets a model learn beside the output folder, then writes what it has become into it.

    Args:
        task: What it learns.
        output: Where the files go. Checkpoints are kept beside it until then.
        learn: Learns, given where it keeps its state.
        base: An instance of the class of what learns, in its first shape; by default the task's
            model.
        said: Told every line worth telling.

    Raises:
        CaptureError: What has learned cannot be exported.
        OutputError: The folder may not be written.
    """
    beside = output.folder.with_name(output.folder.name + CHECKPOINTS)
    with fresh_folder(output.folder, force=output.force) as folder:
        found = learn(Surroundings(folder=beside, progress=output.progress, said=said))
        output.progress("export it", 0, 1)
        saved = _saved(task, found, folder, base=base or task.model)
        (folder / SETTINGS).write_text(found.training.written(), encoding="utf-8")
    forget(beside)
    counts = [sum(one.numel() for one in m.parameters()) for m in (task.model, found.model)]
    return Taught(
        history=found.history,
        best=found.best,
        steps=found.steps,
        seconds_per_step=found.seconds_per_step,
        notes=found.notes,
        parameters=(counts[0], counts[1]),
        files={name: entry.bytes for name, entry in saved.artifact.files.items()},
        reloads=saved.reloads,
    )


def _saved(task: Task, found: Learned, folder: Path, *, base: nn.Module) -> Saved:
    dynamic: Dynamic = {place: dims for place, dims in enumerate(task.varying()) if dims}
    graph = isinstance(found.model, GraphModel)
    changed = Reshaped(found.model, "graph" if graph else "class", checks=(), notes=found.notes)
    return save_reshaped(
        changed, base, inputs=task.sample(2), steps=(), folder=folder, dynamic=dynamic
    )
