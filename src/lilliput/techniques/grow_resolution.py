"""Lets a model take larger images."""

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resolution import larger_images
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.growing import captured


class GrowResolution(Fields):
    """Interpolates tables of positions; convolutional networks stay as they are.

    Nothing says what the answers to larger images should be, so this one step proves nothing; the
    notes say so.

    Attributes:
        factor: How many times as long the sides of the images will be, above 1.
    """

    name: ClassVar[str] = "grow_resolution"
    family: ClassVar[Family] = "grow"
    source: ClassVar[str] = "Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.2"
    summary: ClassVar[str] = "take larger images; position tables are interpolated"

    factor: float = Field(2.0, gt=1, le=16, json_schema_extra={"unit": "times the size"})

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A copy for larger images; `inputs` have the old size."""
        if where:
            raise ShapeError(f"the resolution is the whole model's, not that of {where[0]}")
        shape = captured(model, inputs, batches=batches)
        return larger_images(model, shape, factor=self.factor, inputs=inputs)
