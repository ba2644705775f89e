"""`distill`: a student learns what its teacher answers, and how it comes to it."""

from dataclasses import replace
from typing import get_args

from torch import nn

from lilliput.errors import TrainingError
from lilliput.learning.augmenting.policy import Policy
from lilliput.learning.distilling.comparing import Answer, Imitation
from lilliput.learning.distilling.imitating import Imitating
from lilliput.learning.distilling.imitation import Logits, mixes_targets
from lilliput.learning.distilling.kept_answers import keep_answers
from lilliput.learning.distilling.places import Ends
from lilliput.learning.distilling.students import answer_of, check_apart, check_fits, student_of
from lilliput.learning.distilling.teachers import Average, Teachers
from lilliput.learning.distilling.teaching import Teaching
from lilliput.learning.learned import Learned
from lilliput.learning.loop import Surroundings, learn
from lilliput.learning.material import Material, material_of
from lilliput.learning.pupil import restore_flags
from lilliput.learning.training import Training
from lilliput.learning.watching import Watch
from lilliput.metrics import Metric
from lilliput.task import Task
from lilliput.validation import check_task


def distill(
    task: Task,
    *,
    student: nn.Module | float | str,
    losses: Imitation | tuple[Imitation, ...] = (),
    teaching: Teaching | None = None,
    training: Training | None = None,
    around: Surroundings | None = None,
) -> Learned:
    """Trains a student on what its teacher, the task's model, answers; the best by search examples.

    No targets are needed unless a loss mixes them in: it learns from the inputs of the task's
    `train`, without any from its calibration examples.

    Args:
        task: Its model teaches and is left as it was; its metric scores the student.
        student: A module (it is copied); a share in (0, 1): the task's model with so much of its
            widths; or ``again``: its class with fresh weights (born-again networks).
        losses: What is imitated, by default the answers: see `Logits`, `Features`, `Blocks`,
            `Attention`, `Relations`.
        teaching: Other teachers or several, in less memory, with answers kept.
        training: How long, how fast: see `Training`.
        around: Folder for checkpoints, and who is told.

    Raises:
        CaptureError, ShapeError: The task's model cannot be made narrower.
        CheckpointError, OutputError: See `learn`.
        TaskError: The student does not take the task's inputs, or targets do not fit.
        TrainingError: The teacher is the student, both tell other classes apart, a place does not
            exist, or there is nothing to learn from.
    """
    training, teaching = training or Training(), teaching or Teaching()
    given = (losses if isinstance(losses, tuple) else (losses,)) or (Logits(),)
    labelled = _labelled(given, teaching)
    metric = check_task(task)
    if not teaching.average:
        check_apart(student, teaching.models or (task.model,))
    pupil = student_of(student, task, seed=training.seed)
    lesson = _lesson(task, pupil, losses=given, teaching=teaching, metric=metric)
    split = task.split(training.seed)
    material = material_of(task, split=split, labelled=labelled, use="distillation")
    notes = (*_told(lesson, teaching), *_keep(lesson, material, teaching, training))
    found = learn(
        pupil,
        lesson,
        material=material,
        training=training,
        watch=Watch.of(task, subset=split.search, metric=metric),
        around=around,
    )
    if isinstance(student, nn.Module):
        restore_flags(found.model, student)
    return replace(found, notes=(*notes, *found.notes))


def _lesson(
    task: Task,
    pupil: nn.Module,
    *,
    losses: tuple[Imitation, ...],
    teaching: Teaching,
    metric: Metric | None,
) -> Imitating:
    """The lesson, its teachers engaged and its places found.

    Raises:
        TaskError, TrainingError: Student and teachers do not fit together.
    """
    average = Average(pupil, teaching.average) if teaching.average else None
    teachers = Teachers(task, teaching, average=average)
    outputs = check_fits(pupil, teachers.models, task=task)
    first = average.model if average else (*teaching.models, task.model)[0]
    ends = Ends(task, teacher=first, student=pupil)
    placed = tuple(ends.placed(loss) for loss in losses)
    answer = _answer(placed, answer_of(outputs, task=task, metric=metric))
    return Imitating(task, pupil, losses=placed, teachers=teachers, answer=answer)


def _labelled(losses: tuple[Imitation, ...], teaching: Teaching) -> bool:
    for loss in losses:
        if not hasattr(loss, "loss") or not hasattr(loss, "weight"):
            raise TrainingError(
                f"{loss!r} is no loss of distillation", "e.g. Logits(temperature=4)"
            )
    labelled = mixes_targets(losses)
    if teaching.average and not labelled:
        raise TrainingError(
            "a student learns nothing from its own average alone",
            "mix the targets in: losses=Logits(targets=0.5)",
        )
    return labelled


def _answer(losses: tuple[Imitation, ...], seen: Answer) -> Answer:
    for loss in losses:
        if isinstance(loss, Logits) and loss.answer in get_args(Answer):
            return loss.answer  # type: ignore[return-value]
    return seen


def _told(lesson: Imitating, teaching: Teaching) -> list[str]:
    """What the user should know before it begins."""
    notes = []
    for loss in lesson.losses:
        if loss.pairs:
            pairs = ", ".join(f"{one} to {other}" for one, other in loss.pairs)
            notes.append(f"{type(loss).__name__.lower()} compared: {pairs}")
    if teaching.precision != "float32":
        before, after = lesson.teachers.bytes
        notes.append(f"teachers kept in {teaching.precision}: {after:,} of {before:,} bytes")
    return notes


def _keep(
    lesson: Imitating, material: Material, teaching: Teaching, training: Training
) -> list[str]:
    """Has the answers kept where that is asked for.

    Raises:
        TrainingError: A loss compares more than answers, or inputs are augmented.
    """
    if teaching.keep == "no":
        return []
    if Policy.parse(training.augmentation).steps:
        raise TrainingError(
            "kept answers are of other inputs than augmented ones", "keep='no' with augmentation"
        )
    if lesson.taught:
        raise TrainingError(
            "kept answers hold no features of the teacher", "keep='no', or losses without pairs"
        )
    lesson.kept, note = keep_answers(
        lesson.teachers, material, teaching=teaching, size=training.batch_size
    )
    return [note]
