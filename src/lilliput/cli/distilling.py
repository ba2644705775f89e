"""``lilliput distill``: a student learns from the task's model, and is written down."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from lilliput.cli.app import app
from lilliput.cli.learning import NO_TRAINING, TrainingOptions, show_taught
from lilliput.cli.options import NO_TASK, FolderOptions, TaskOptions
from lilliput.cli.screen import Screen

if TYPE_CHECKING:
    from torch import nn

    from lilliput.learning import Teaching
    from lilliput.learning.distilling.comparing import Imitation

STUDENT = Group("Student and teacher", sort_key=2)
Keep = Annotated[str | None, Parameter(help="Answers are kept: memory, or a folder for them.")]


@Parameter(name="*", group=STUDENT)
@dataclass(frozen=True, kw_only=True)
class ImitationOptions:
    """What is imitated: the answers, and what else is given a weight."""

    temperature: float | None = None
    """Of the answers; above 1 the teacher's small probabilities count more."""
    targets: float | None = None
    """Share of the task's own loss on the targets, 0 to 1."""
    features: float | None = None
    """Weight of hidden features."""
    attention: float | None = None
    """Weight of where the teacher looks."""
    relations: float | None = None
    """Weight of how examples lie to each other."""
    blocks: float | None = None
    """Share of the steps in which blocks learn one after the other, before all else."""
    teacher_precision: Literal["float32", "bfloat16", "float16", "int8"] | None = None
    """What the teacher's weights are kept in."""
    keep_answers: Keep = None

    def losses(self) -> "tuple[Imitation, ...]":
        """The losses they ask for."""
        from lilliput.learning import Attention, Blocks, Features, Logits, Relations

        answers = {"temperature": self.temperature, "targets": self.targets}
        given: dict[str, Any] = {name: v for name, v in answers.items() if v is not None}
        found: list[Imitation] = [Logits(**given)]
        weighted = ((Features, self.features), (Attention, self.attention))
        for kind, weight in (*weighted, (Relations, self.relations)):
            if weight is not None:
                found.append(kind(weight=weight))
        if self.blocks is not None:
            found.append(Blocks(share=self.blocks))
        return tuple(found)

    def teaching(self) -> "Teaching":
        """The teaching they ask for."""
        from lilliput.learning import Teaching

        given: dict[str, Any] = {}
        if self.teacher_precision is not None:
            given["precision"] = self.teacher_precision
        if self.keep_answers is not None:
            kept = self.keep_answers
            given["keep"] = kept if kept in ("no", "memory") else Path(kept)
        return Teaching(**given)


NO_IMITATION = ImitationOptions()


@app.command
def distill(
    target: str,
    /,
    *,
    student: Annotated[str, Parameter(group=STUDENT)],
    folder: FolderOptions,
    task: TaskOptions = NO_TASK,
    imitation: ImitationOptions = NO_IMITATION,
    training: TrainingOptions = NO_TRAINING,
) -> None:
    """Train a smaller student on what a model answers; no labels are needed.

    Args:
        target: A task file (task.py), or what `compress` takes; its model teaches.
        student: FILE.py:NAME, a share of the model's widths, or again: fresh weights.
    """
    screen = Screen(as_json=folder.as_json)
    with screen.working():
        screen.progress("load", 0, 3)
        from lilliput.lessons import distill_task
        from lilliput.reshaping import Output

        found = distill_task(
            task.task(target),
            Output(folder.out, folder.force, screen.progress),
            student=student_from(student),
            losses=imitation.losses(),
            teaching=imitation.teaching(),
            training=training.training(),
            said=screen.said,
        )
    show_taught(screen, found, out=folder.out)


def student_from(text: str) -> "nn.Module | float | str":
    """FILE.py:NAME as a module, a share as a number; anything else as it is."""
    from lilliput.sources.taskfile import model_from_spec

    if ":" in text:
        return model_from_spec(text)
    try:
        return float(text)
    except ValueError:
        return text
