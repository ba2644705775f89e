"""Removes the units that are least active."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lilliput.shapes.readings import Columns
from lilliput.shapes.reshaped import Reshaped
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.narrowing import (
    MULTIPLE,
    REMOVE,
    Refit,
    Scope,
    Subject,
    comparable,
    narrowed,
)


class NarrowActivation(Fields):
    """Removes the units whose values, as what reads them sees them, are smallest.

    Attributes:
        remove: Share of the units to remove, in (0, 1).
        scope: Whether every width loses that share (``uniform``) or all of them together do
            (``global``): widths with many small units then lose more.
        multiple: What is left of a width is a multiple of it, 1 to 64; of heads, key-value groups
            and widths of less than two multiples any number is left.
        refit: How the weights that read what stays make up for what went: by ``least_squares`` on
            the calibration inputs, or not at all (``none``).
        measure: The size of a unit's values: their root mean square (``rms``), or how far they
            ``spread`` around their mean, which the refit's bias makes up for.
    """

    name: ClassVar[str] = "narrow_activation"
    family: ClassVar[Family] = "narrow"
    source: ClassVar[str] = "Hu et al. 2016, arXiv 1607.03250"
    summary: ClassVar[str] = "remove the units with the smallest activations"

    remove: float = REMOVE
    scope: Scope = "uniform"
    multiple: int = MULTIPLE
    refit: Refit = "least_squares"
    measure: Literal["rms", "spread"] = "rms"

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A narrower copy with its proof."""
        subject = Subject.of(model, inputs, where=where, batches=batches)
        return narrowed(self, subject, scores=self._scores(subject))

    def _scores(self, subject: Subject) -> dict[str, Tensor]:
        """Per width the sizes of its units' values, (units,), comparable between widths."""
        return {
            width.name: comparable(
                torch.stack([self._power(subject, one) for one in subject.seen(width)])
                .sum(0)
                .sqrt()
            )
            for width in subject.widths
        }

    def _power(self, subject: Subject, columns: Columns) -> Tensor:
        """(units,) mean squares, over the positions of a kernel and the groups summed up."""
        moments = subject.moments[columns.site.name]
        if moments.second is None or moments.mean is None:
            raise ValueError(f"{columns.site.name} was not observed")
        power = moments.second.diagonal(dim1=1, dim2=2) / moments.count  # (groups, columns)
        if self.measure == "spread":
            power = (power - moments.mean.square()).clamp_min(0)
        return power.sum(0)[columns.places].sum(1)
