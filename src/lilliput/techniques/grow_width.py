"""Makes widths wider by copying units, with the same answers."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.copies import Filling
from lilliput.shapes.cutting import named_width
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widening import copied_units, keeps_answers, widen
from lilliput.shapes.widths import Shape
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.growing import captured


class GrowWidth(Fields):
    """Copies channels, neurons, heads, key-value groups or hidden units; their readers share.

    A norm over the width keeps its mean and variance only where all units are copied equally often,
    so that takes a whole factor. Without `where`, widths whose growth would change the answers are
    left as they are, and the notes name them.

    Attributes:
        factor: How many times as many units there will be, above 1.
        fill: ``copy``: a unit and its copies share what is read of them; ``zero``: nothing is read
            of the copies yet.
        noise: Standard deviation of the noise that makes copies differ, over that of the weight;
            laid so that the answers stay.
        seed: Of the noise, and of which units are copied once more than others.
        exact: Refuse what would change the answers.
    """

    name: ClassVar[str] = "grow_width"
    family: ClassVar[Family] = "grow"
    source: ClassVar[str] = (
        "Net2WiderNet, Chen et al. 2015, arXiv 1511.05641; for transformers Chen et al. 2021, "
        "arXiv 2110.07143"
    )
    summary: ClassVar[str] = "copy units of widths; the answers stay the same"

    factor: float = Field(1.5, gt=1, le=16, json_schema_extra={"unit": "times the units"})
    fill: Literal["copy", "zero"] = "copy"
    noise: float = Field(0.0, ge=0, le=1, json_schema_extra={"unit": "of the spread of what reads"})
    seed: int = Field(0, ge=0, le=65535, json_schema_extra={"unit": "seed"})
    exact: bool = True

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A wider copy with its proof; needs no calibration inputs."""
        shape = captured(model, inputs, batches=batches)
        notes: list[str] = []
        names = [named_width(shape, name).name for name in where] or self._free(shape, notes)
        units = {
            name: copied_units(shape.widths[name].units, self.factor, seed=self.seed)
            for name in names
        }
        filling = Filling(self.fill, self.noise, self.seed)
        found = widen(model, shape, units=units, inputs=inputs, filling=filling, exact=self.exact)
        return replace(found, notes=(*found.notes, *notes))

    def _free(self, shape: Shape, notes: list[str]) -> list[str]:
        """The widths that can grow; what cannot be kept is noted."""
        free = [width for width in shape.widths.values() if width.free]
        names = []
        for width in free:
            units = copied_units(width.units, self.factor, seed=self.seed)
            if self.exact and not keeps_answers(shape, width.name, units=units):
                notes.append(f"{width.name} stays as it is: wider, it would change the answers")
            else:
                names.append(width.name)
        if not names:
            raise ShapeError(
                f"no width can be made {self.factor:g} times as wide with the same answers"
                if free
                else "the model has no width that is free"
            )
        return names
