"""A task's model in another shape, as a folder: what `lilliput grow` and `shrink-to` do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from lilliput.errors import CheckpointError
from lilliput.folders import fresh_folder
from lilliput.progress import Progress, unseen
from lilliput.records import Step
from lilliput.reshaping.grow import Growth, grown, growth_steps
from lilliput.reshaping.saving import save_reshaped
from lilliput.reshaping.shrink import Choice, shrink_steps, taken
from lilliput.runtime.onnx_export import Dynamic
from lilliput.runtime.onnx_module import OnnxModule
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resolution import enlarged
from lilliput.splits import Split
from lilliput.task import Task

_BATCH, _MOST_EXAMPLES = 32, 256


@dataclass(frozen=True)
class Output:
    """Where the files go, and who is told how far it is.

    Attributes:
        folder: The folder to be.
        force: Replace an output folder of ours.
        progress: Told of each stage.
    """

    folder: Path
    force: bool = False
    progress: Progress = unseen


@dataclass(frozen=True)
class Written:
    """A changed model and its files.

    Attributes:
        how: ``class`` for the user's own class, ``graph`` for its captured graph.
        notes: What could not be preserved, and what else the user should know.
        difference: Largest difference of the ONNX file's outputs from the original model's, over
            the largest of those; None where they cannot be compared.
        parameters: Of the original and of the changed model.
        files: Name -> bytes.
        reloads: Whether `lilliput.load` gives an instance of the user's class this shape.
    """

    how: Literal["class", "graph"]
    notes: tuple[str, ...]
    difference: float | None
    parameters: tuple[int, int]
    files: dict[str, int]
    reloads: bool


def grow_task(task: Task, output: Output, **growth: Unpack[Growth]) -> Written:
    """A larger model and its files, see `grown`.

    Raises:
        CheckpointError: The task's model is an ONNX file.
        OutputError: The folder may not be written.
        PlanError, ShapeError: As `grown`.
    """
    inputs = _inputs(task)
    steps = growth_steps(**growth)
    output.progress("grow the model", 1, 3)
    found = grown(task.model, inputs, **growth)
    if "resolution" in growth:
        inputs, _ = enlarged(inputs, growth["resolution"])
    return _written(task, found, output, steps=steps, inputs=inputs)


def shrink_task(
    task: Task, output: Output, *, width: float, depth: float, choice: Choice, **options: Any
) -> Written:
    """A student and its files, see `shrunk_to`; calibrated on the task's calibration examples.

    Raises:
        CheckpointError: The task's model is an ONNX file.
        OutputError: The folder may not be written.
        PlanError, ShapeError: As `shrunk_to`.
    """
    inputs = _inputs(task)
    output.progress("shrink the model", 1, 3)
    steps = shrink_steps(task.model, inputs, width, depth=depth, choice=choice, **options)
    found = taken(task.model, inputs, steps=steps, batches=calibration_inputs(task, task.split(0)))
    return _written(task, found, output, steps=steps, inputs=inputs)


def _inputs(task: Task) -> Any:
    if isinstance(task.model, OnnxModule):
        raise CheckpointError(
            "an ONNX file keeps its shape", "give the PyTorch model that it was exported from"
        )
    return task.sample(2)


def calibration_inputs(task: Task, split: Split) -> list[Any] | None:
    """Inputs of calibration examples, batch by batch; None without any."""
    subset = split.calibration[:_MOST_EXAMPLES]
    return [batch.inputs for batch in task.batches(subset, _BATCH)] or None


def _written(
    task: Task, found: Reshaped, output: Output, *, steps: tuple[Step, ...], inputs: Any
) -> Written:
    output.progress("export it", 2, 3)
    dynamic: Dynamic = {place: dims for place, dims in enumerate(task.varying()) if dims}
    with fresh_folder(output.folder, force=output.force) as folder:
        saved = save_reshaped(
            found, task.model, inputs=inputs, steps=steps, folder=folder, dynamic=dynamic
        )
    counts = [sum(one.numel() for one in m.parameters()) for m in (task.model, found.model)]
    return Written(
        how=found.how,
        notes=found.notes,
        difference=saved.difference,
        parameters=(counts[0], counts[1]),
        files={name: entry.bytes for name, entry in saved.artifact.files.items()},
        reloads=saved.reloads,
    )
