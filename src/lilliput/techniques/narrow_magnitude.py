"""Removes the units whose weights are smallest."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Width
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


class NarrowMagnitude(Fields):
    """Removes the units whose weights, in all places that go with them, are smallest.

    Attributes:
        remove: Share of the units to remove, in (0, 1).
        scope: Whether every width loses that share (``uniform``) or all of them together do
            (``global``): widths with many small units then lose more.
        multiple: What is left of a width is a multiple of it, 1 to 64; of heads, key-value groups
            and widths of less than two multiples any number is left.
        refit: How the weights that read what stays make up for what went: by ``least_squares`` on
            the calibration inputs, or not at all (``none``).
    """

    name: ClassVar[str] = "narrow_magnitude"
    family: ClassVar[Family] = "narrow"
    source: ClassVar[str] = "Li et al. 2017, arXiv 1608.08710; Fang et al. 2023, arXiv 2301.12900"
    summary: ClassVar[str] = "remove the units with the smallest weights"

    remove: float = REMOVE
    scope: Scope = "uniform"
    multiple: int = MULTIPLE
    refit: Refit = "least_squares"

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
        return narrowed(self, subject, scores=_sizes(subject))


def _sizes(subject: Subject) -> dict[str, Tensor]:
    """Per width the sizes of its units, (units,), comparable between widths."""
    return {width.name: comparable(_size(subject, width)) for width in subject.widths}


def _size(subject: Subject, width: Width) -> Tensor:
    """(units,) root of the sum of squares."""
    weights = subject.weights
    total = torch.zeros(width.units)
    for tie in width.ties:
        if tie.weight in weights and subject.first_of(tie.weight):
            moved = weights[tie.weight].detach().float().movedim(tie.axis, 0)
            total += moved[torch.from_numpy(tie.positions)].flatten(1).square().sum(1)
    return total.sqrt()
