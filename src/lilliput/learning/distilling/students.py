"""The student: whose own it is, where it starts, and whether it fits its teachers."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lilliput.batches import call_form, flatten_tensors
from lilliput.errors import TrainingError
from lilliput.evaluation import evaluating
from lilliput.learning.distilling.comparing import Answer
from lilliput.metrics import Metric, is_class_scores
from lilliput.records import Step
from lilliput.scoring import move_classes
from lilliput.task import Task
from lilliput.techniques import structural_from_step
from lilliput.usercode import users_code

AGAIN = "again"
_OF_CLASSES = ("accuracy", "top", "f1", "perplexity", "agreement", "kl")
_OF_NUMBERS = ("mse", "cosine")


def student_of(student: nn.Module | float | str, task: Task, *, seed: int) -> nn.Module:
    """A model of its own that is to learn.

    Args:
        student: A module, which is copied; a share of the widths of the task's model that stays,
            with the weights inherited; or ``again`` for its class with fresh weights.
        task: Its model is left as it was.
        seed: Of fresh weights.

    Raises:
        CaptureError, ShapeError: The task's model cannot be made narrower.
        TrainingError: It is nothing of the kind, or its weights cannot be made afresh.
    """
    if isinstance(student, nn.Module):
        own = copy.deepcopy(student)
        if not any(one.requires_grad for one in own.parameters()):
            own.requires_grad_(True)
        return own
    if student == AGAIN:
        return afresh(task.model, seed=seed)
    if isinstance(student, bool) or not isinstance(student, int | float):
        raise TrainingError(
            f"the student is {student!r}",
            f"a torch.nn.Module, a share of the widths that stays, or {AGAIN!r}",
        )
    if not 0 < student < 1:
        raise TrainingError(
            f"student = {student:g} is out of range", "the share that stays, (0, 1)"
        )
    step = Step(technique="narrow_magnitude", where=(), settings={"remove": round(1 - student, 9)})
    narrowed = structural_from_step(step).change(
        task.model, task.sample(2), where=step.where, batches=None
    )
    return copy.deepcopy(narrowed.model).requires_grad_(True)


def afresh(model: nn.Module, *, seed: int) -> nn.Module:
    """A copy with all weights drawn anew, as its modules draw them (born-again: arXiv 1805.04770).

    Raises:
        TrainingError: A module with weights of its own does not say how they are drawn.
    """
    fresh = copy.deepcopy(model).requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in fresh.named_modules():
            drawn = getattr(module, "reset_parameters", None)
            drawn = drawn or getattr(module, "_reset_parameters", None)
            if callable(drawn):
                drawn()
            elif next(module.parameters(recurse=False), None) is not None:
                raise TrainingError(
                    f"{name or 'the model'} ({type(module).__name__}) does not say how its "
                    "weights are drawn",
                    "give a fresh model as the student",
                )
    return fresh


def check_apart(student: Any, teachers: tuple[nn.Module, ...]) -> None:
    """Refuses a student that is a teacher.

    Raises:
        TrainingError: It is.
    """
    if not isinstance(student, nn.Module):
        return
    own = {id(one) for one in student.parameters()}
    for teacher in teachers:
        if student is teacher or (own and own <= {id(one) for one in teacher.parameters()}):
            raise TrainingError(
                "the teacher is the student",
                f"give another model, student={AGAIN!r}, or Teaching(average=0.99)",
            )


def check_fits(student: nn.Module, teachers: tuple[nn.Module, ...], *, task: Task) -> Tensor:
    """Runs both on two examples.

    Returns:
        The first teacher's output, (N, ...).

    Raises:
        TaskError: One of them does not take the task's inputs.
        TrainingError: They answer with different classes or shapes.
    """
    wanted = [_answer(task, one, "the teacher") for one in teachers]
    got = _answer(task, student, "the student")
    for one in wanted:
        if one.shape == got.shape:
            continue
        classes = tuple(move_classes(value).shape[-1] for value in (one, got))
        if one.ndim == got.ndim and classes[0] != classes[1]:
            names = f" ({', '.join(map(str, task.label_names))})" if task.label_names else ""
            raise TrainingError(
                f"the teacher tells {classes[0]} classes apart{names}, the student {classes[1]}",
                "give the student a last layer of the same classes",
            )
        raise TrainingError(
            f"the teacher answers with {tuple(one.shape)}, the student with {tuple(got.shape)}",
            "both must answer alike; choose with Task(output=...)",
        )
    return wanted[0]


def _answer(task: Task, model: nn.Module, who: str) -> Tensor:
    inputs = task.sample(2)
    shapes = ", ".join(str(tuple(one.shape)) for one in flatten_tensors(inputs))
    with evaluating(model), users_code(f"{who}, called as {call_form(inputs)} on {shapes},"):
        return task.predict(model, inputs)


def answer_of(outputs: Tensor, *, task: Task, metric: Metric | None) -> Answer:
    """What outputs (N, ...) are: as metric and targets have it, else by their values."""
    scores = move_classes(outputs).double()
    if outputs.ndim < 2 or scores.shape[-1] < 2 or not _are_classes(outputs, task, metric):
        return "numbers"
    sums = scores.sum(-1)
    probable = bool((scores >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
    return "probabilities" if probable else "logits"


def _are_classes(outputs: Tensor, task: Task, metric: Metric | None) -> bool:
    if metric is not None and metric.name in _OF_NUMBERS:
        return False
    if metric is not None and metric.name.startswith(_OF_CLASSES):
        return True
    target = task.example(0).target if len(task) else None
    whole = target is not None and np.asarray(target).dtype.kind in "iu"
    return whole or is_class_scores(outputs)
