"""Calling a user's model without changing it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.batches import as_inputs, call
from lilliput.evaluation import evaluating
from lilliput.task import Task

Call = Callable[[nn.Module, Any], Any]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def arguments(inputs: Any) -> Arguments:
    """How `inputs` is passed: a mapping as keywords, a tuple or list as positions, else alone."""
    inputs = as_inputs(inputs)
    if isinstance(inputs, dict):
        return (), inputs
    if isinstance(inputs, tuple):
        return inputs, {}
    return (inputs,), {}


class _Caller(nn.Module):
    """Lets `functional_call` replace weights under a caller's own way of running the model."""

    def __init__(self, model: nn.Module, run: Call) -> None:
        super().__init__()
        self.model = model
        self.run = run

    def forward(self, inputs: Any) -> Any:
        return self.run(self.model, inputs)


def run_with(
    model: nn.Module, replaced: Mapping[str, Tensor], inputs: Any, *, run: Call = call
) -> Any:
    """Outputs of `model` with some parameters replaced; the model itself is not touched.

    Runs in evaluation mode without gradients. A replaced tensor stands in for every name its
    parameter is tied to; buffers are copied, so a model that carries state cannot change.

    Args:
        model: Any module.
        replaced: Qualified parameter name -> tensor of the parameter's shape.
        inputs: One batch: tensor, tuple or mapping.
        run: How to call the model, e.g. ``task.run``.
    """
    state = {f"model.{name}": buffer.clone() for name, buffer in model.named_buffers()}
    state |= {f"model.{name}": value for name, value in replaced.items()}
    with evaluating(model):
        return torch.func.functional_call(_Caller(model, run), state, (inputs,))


def answer(task: Task, inputs: Any, *, replaced: Mapping[str, Tensor]) -> Tensor:
    """The output of a task's model that counts, with some parameters replaced as in `run_with`."""
    return task.pick(run_with(task.model, replaced, inputs, run=task.run))
