"""Removes units one by one, each time the one that costs least once the others absorb it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Width
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.narrowing import (
    MULTIPLE,
    REMOVE,
    Narrows,
    Refit,
    Scope,
    Subject,
    multiple_of,
    narrowed,
)
from lilliput.tensor.greedy_removal import Reading, greedy_removal
from lilliput.tensor.removal import left


class NarrowSecondOrder(Fields):
    """Removes the unit whose loss the others can absorb best, updates them, and so on.

    What reads a width is compared under the second-order loss of its layer; after each removal the
    weights and the inverse of the second moments are updated. Takes seconds to minutes.

    Attributes:
        remove: Share of the units to remove, in (0, 1).
        scope: Whether every width loses that share (``uniform``) or all of them together do
            (``global``): widths with many small units then lose more.
        multiple: What is left of a width is a multiple of it, 1 to 64; of heads, key-value groups
            and widths of less than two multiples any number is left.
        refit: How the weights that read what stays make up for what went: by ``least_squares`` on
            the calibration inputs, or not at all (``none``).
    """

    name: ClassVar[str] = "narrow_second_order"
    family: ClassVar[Family] = "narrow"
    source: ClassVar[str] = "Hassibi & Stork 1993; Kurtic et al. 2023, arXiv 2302.04089 (ZipLM)"
    summary: ClassVar[str] = "greedy second-order removal: OBS on whole units"

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
        return narrowed(self, subject, scores=_scores(self, subject))


def _scores(technique: Narrows, subject: Subject) -> dict[str, Tensor]:
    """Per width what each unit costs at its turn, (units,)."""
    found = {}
    for width in subject.widths:
        count = width.units - 1
        if technique.scope == "uniform":
            step = multiple_of(technique, width)
            count = width.units - left(width.units, 1 - technique.remove, multiple=step)
        found[width.name] = greedy_removal(_readings(subject, width), count)[1]
    return found


def _readings(subject: Subject, width: Width) -> list[Reading]:
    """Layers that read the width; those that read the same values are one."""
    stacks: dict[tuple[int, int], list[Reading]] = {}
    shrunk: dict[int, Tensor] = {}
    for columns in subject.seen(width):
        site, moments = columns.site, subject.moments[columns.site.name]
        key = moments.second.data_ptr() if moments.second is not None else 0
        if key not in shrunk:
            shrunk[key] = moments.shrunk()
        seconds = shrunk[key]
        weight = site.matrix(subject.weights[site.name].detach()).float()
        for group, rows in enumerate(weight.chunk(len(seconds))):
            one = Reading(rows, seconds[group], columns.places)
            stacks.setdefault((key, group), []).append(one)
    return [
        replace(same[0], weight=torch.cat([one.weight for one in same])) for same in stacks.values()
    ]
