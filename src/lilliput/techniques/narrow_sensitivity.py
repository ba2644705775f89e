"""Removes the units that the output misses least: it is measured with groups of them silenced."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from lilliput.model.calls import run_with
from lilliput.model.gradients import first_float
from lilliput.shapes.readings import Columns
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Width
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.narrowing import (
    MULTIPLE,
    REMOVE,
    Output,
    Refit,
    Scope,
    Subject,
    narrowed,
)
from lilliput.tensor.divergence import divergence


class NarrowSensitivity(Fields):
    """Silences groups of units and removes those that change the output least.

    Units that hand on about as much are one group; inside of a group the one that hands on least
    goes first. It runs the model once per group, width and batch.

    Attributes:
        remove: Share of the units to remove, in (0, 1).
        scope: Whether every width loses that share (``uniform``) or all of them together do
            (``global``): widths with many small units then lose more.
        multiple: What is left of a width is a multiple of it, 1 to 64; of heads, key-value groups
            and widths of less than two multiples any number is left.
        refit: How the weights that read what stays make up for what went: by ``least_squares`` on
            the calibration inputs, or not at all (``none``).
        output: What the model gives: ``numbers``, or scores of ``classes`` on the last axis.
        groups: Into how many groups the units of a width fall, 1 to 4096; with as many groups as
            units each is measured by itself.
    """

    name: ClassVar[str] = "narrow_sensitivity"
    family: ClassVar[Family] = "narrow"
    source: ClassVar[str] = "Mozer & Smolensky 1989 (skeletonization)"
    summary: ClassVar[str] = "remove the units whose silence changes the output least"

    remove: float = REMOVE
    scope: Scope = "uniform"
    multiple: int = MULTIPLE
    refit: Refit = "least_squares"
    output: Output = "numbers"
    groups: int = Field(16, ge=1, le=4096, json_schema_extra={"unit": "groups"})

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
        """Per width what the output misses without a unit, (units,)."""
        wanted = [_answer(subject, batch, {}) for batch in subject.batches]
        return {width.name: self._missed(subject, width, wanted=wanted) for width in subject.widths}

    def _missed(self, subject: Subject, width: Width, *, wanted: Sequence[Tensor]) -> Tensor:
        handed = torch.stack([_handed_on(subject, one) for one in subject.seen(width)]).sum(0)
        found = torch.zeros(width.units)
        for units in handed.argsort(stable=True).tensor_split(min(self.groups, width.units)):
            stays = np.delete(np.arange(width.units), units.numpy())
            deaf = Kept(subject.shape, {width.name: stays}).deaf(subject.weights)
            pairs = zip(subject.batches, wanted, strict=True)
            lost = [
                divergence(_answer(subject, one, deaf), other, classes=self.output == "classes")
                for one, other in pairs
            ]
            own = handed[units] / handed[units].sum().clamp_min(1e-30)
            found[units] = sum(lost) / len(lost) * own
        return found


def _handed_on(subject: Subject, columns: Columns) -> Tensor:
    """(units,) mean squares of what units add to the results of what reads them."""
    site, moments = columns.site, subject.moments[columns.site.name]
    if moments.second is None:
        raise ValueError(f"{site.name} was not observed")
    power = moments.second.diagonal(dim1=1, dim2=2) / moments.count  # (groups, columns)
    squares = site.matrix(subject.weights[site.name].detach().float()).square()
    sizes = torch.stack([rows.sum(0) for rows in squares.chunk(len(power))])
    return (power * sizes).sum(0)[columns.places].sum(1)


def _answer(subject: Subject, batch: Any, replaced: Mapping[str, Tensor]) -> Tensor:
    return first_float(run_with(subject.model, replaced, batch))
