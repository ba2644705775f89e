"""Running a task once, before hours are spent on it."""

import torch
from torch import Tensor, nn

from lilliput.batches import call_form, flatten_tensors
from lilliput.errors import TaskError
from lilliput.evaluation import evaluating
from lilliput.metrics import Metric, score_rows
from lilliput.task import Task
from lilliput.usercode import users_code

BATCH = 8


def check_task(task: Task, *, most: int = 64) -> Metric | None:
    """Run the original and the metric on a few examples, spread over the whole task.

    Args:
        task: What to check.
        most: How many examples to try.

    Returns:
        The resolved metric; None where there are no examples to score.

    Raises:
        TaskError: Weights or outputs that are not finite, a model that fails (the message says how
            it was called), an output without the batch dimension, targets that do not fit, or a
            metric that does not return one row per example.
    """
    check_weights(task.model)
    with evaluating(task.model):
        first = task.sample(1)
        count = 1 if len(task) else len(flatten_tensors(first)[0])
        _check_output(_forward(task, first, count=count), count)
        metric: Metric | None = None
        if not len(task):
            return None
        tried = min(most, len(task))
        for batch in task.batches([i * len(task) // tried for i in range(tried)], BATCH):
            output = _forward(task, batch.inputs, count=len(batch))
            _check_output(output, len(batch))
            metric = task.resolve_metric(output)
            targets = output if metric.reference == "original" else batch.targets
            score_rows(metric, output, targets, mask=batch.mask)
    return metric


def check_weights(model: nn.Module) -> None:
    """Refuse parameters that are NaN or infinite and buffers that are NaN.

    Raises:
        TaskError: The message names the tensor.
    """
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            word = "NaN" if bool(weight.isnan().any()) else "infinite"
            raise TaskError(f"parameter {name} holds {word} values", "was the training cut short?")
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and bool(buffer.isnan().any()):
            raise TaskError(f"buffer {name} holds NaN values", "was the training cut short?")


def _forward(task: Task, inputs: object, *, count: int) -> Tensor:
    examples = "1 example" if count == 1 else f"{count} examples"
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in flatten_tensors(inputs))
    with users_code(f"the model, called as {call_form(inputs)} on {examples} of shape {shapes},"):
        raw = task.run(task.model, inputs)
    return task.pick(raw)


def _check_output(output: Tensor, count: int) -> None:
    if output.ndim == 0 or len(output) != count:
        raise TaskError(
            f"the output has shape {tuple(output.shape)} for {count} example(s)",
            "its first dimension must be the batch; choose another with output=...",
        )
    if output.is_floating_point() and bool(torch.isnan(output).any()):
        raise TaskError("the original's output is NaN on its own examples", "check its inputs")
