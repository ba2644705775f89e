"""Adds classes to a model's output."""

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.rows import classes, more_classes
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.growing import captured


class GrowClasses(Fields):
    """Adds rows to the last layer; scores of the old classes stay.

    New classes start as the mean of the old ones. `where` names the last layer where the model has
    several.

    Attributes:
        classes: How many to add, at least 1.
    """

    name: ClassVar[str] = "grow_classes"
    family: ClassVar[Family] = "grow"
    source: ClassVar[str] = "the last layer's rows are independent of each other"
    summary: ClassVar[str] = "add classes; scores of the old ones stay"

    classes: int = Field(1, ge=1, lt=10**6, json_schema_extra={"unit": "classes"})

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A copy with more classes and its proof; needs no calibration inputs."""
        shape = captured(model, inputs, batches=batches)
        if len(where) > 1:
            raise ShapeError(f"one output grows at a time, got {', '.join(where)}")
        width = classes(shape, *where)
        return more_classes(model, shape, width=width, count=self.classes, inputs=inputs)
