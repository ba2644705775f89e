"""What techniques that grow share: what they are given, and where several steps become one."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from lilliput.errors import TaskError
from lilliput.shapes.proof import Reference
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Shape, shape_of


def captured(model: nn.Module, inputs: Any, *, batches: Iterable[Any] | None) -> Shape:
    """The widths of a model; growth needs no calibration, but what is given has to be some.

    Raises:
        CaptureError: The model cannot be captured.
        TaskError: `batches` is empty, or the model does not run on `inputs`.
    """
    if batches is not None and not any(True for _ in batches):
        raise TaskError("there are no calibration examples", "give at least one batch")
    return shape_of(model, inputs)


def proved_as_a_whole(model: nn.Module, shape: Shape, *, found: Reshaped, inputs: Any) -> Reshaped:
    """The last of several steps, compared with the model before all of them."""
    checks = Reference(model, Kept(shape, {}), inputs).compare(found.model)
    return replace(found, checks=tuple(checks))
