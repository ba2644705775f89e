"""Removes units one by one, each time the one that costs least once the others absorb it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lilliput.model.profiles import OUTPUT_SHRINKAGE
from lilliput.shapes.readings import worth
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Width
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.narrowing import (
    DRAWS,
    MULTIPLE,
    REMOVE,
    SEED,
    Output,
    Refit,
    Scope,
    Subject,
    multiple_of,
    narrowed,
    probe_of,
)
from lilliput.tensor.greedy_removal import Reading, greedy_removal
from lilliput.tensor.removal import left
from lilliput.tensor.second_order import damped, share_for_units, toward_diagonal

PROBED = 2  # batches whose output gradients are taken


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
        output: What the model gives: ``numbers``, or scores of ``classes`` on the last axis.
        draws: Random directions of the output per batch, 1 to 64, that say what it is worth.
        seed: Of the directions.
    """

    name: ClassVar[str] = "narrow_second_order"
    family: ClassVar[Family] = "narrow"
    source: ClassVar[str] = "Hassibi & Stork 1993; Kurtic et al. 2023, arXiv 2302.04089 (ZipLM)"
    summary: ClassVar[str] = "greedy second-order removal: OBS on whole units"

    remove: float = REMOVE
    scope: Scope = "uniform"
    multiple: int = MULTIPLE
    refit: Refit = "least_squares"
    output: Output = "numbers"
    draws: int = DRAWS
    seed: int = SEED

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
        """Per width what each unit costs at its turn, (units,)."""
        every = [one for columns in subject.columns.values() for one in columns]
        probe = probe_of(self.output, draws=self.draws, seed=self.seed)
        few = [subject.batches[place] for place in _spread(len(subject.batches), PROBED)]
        roots = {
            name: _root(side)
            for name, side in worth(
                subject.model, subject.shape, columns=every, batches=few, probe=probe
            ).items()
        }
        found = {}
        for width in subject.widths:
            count = width.units - 1
            if self.scope == "uniform":
                step = multiple_of(self, width)
                count = width.units - left(width.units, 1 - self.remove, multiple=step)
            found[width.name] = greedy_removal(_readings(subject, width, roots=roots), count)[1]
        return found


def _spread(count: int, wanted: int) -> list[int]:
    """Evenly spread places."""
    return sorted({round((place + 0.5) * count / wanted - 0.5) for place in range(wanted)})


def _root(side: Tensor) -> Tensor:
    """R with R^T R = G, shrunk toward its diagonal: (rows, rows), or (rows,) of a diagonal."""
    if side.dim() == 1:
        return side.clamp_min(0).sqrt()
    root: Tensor = torch.linalg.cholesky(
        damped(toward_diagonal(side, OUTPUT_SHRINKAGE)), upper=True
    )
    return root.float()


def _readings(subject: Subject, width: Width, *, roots: Mapping[str, Tensor]) -> list[Reading]:
    """Layers that read the width; those that read the same values are one."""
    stacks: dict[tuple[int, int], list[Reading]] = {}
    shrunk: dict[int, Tensor] = {}
    for columns in subject.seen(width):
        site, moments = columns.site, subject.moments[columns.site.name]
        if moments.second is None:
            raise ValueError(f"{site.name} was not observed")
        key = moments.second.data_ptr()
        if key not in shrunk:
            share = share_for_units(site.columns, moments.count)
            shrunk[key] = toward_diagonal(moments.second / moments.count, share)
        weight = site.matrix(subject.weights[site.name].detach()).float()
        if site.name in roots:
            root = roots[site.name]
            if root.dim() == 2 and len(shrunk[key]) > 1:  # it would mix the groups
                root = root.square().sum(0).sqrt()
            weight = root[:, None] * weight if root.dim() == 1 else root @ weight
        for group, rows in enumerate(weight.chunk(len(shrunk[key]))):
            one = Reading(rows, shrunk[key][group], columns.places)
            stacks.setdefault((key, group), []).append(one)
    return [
        replace(same[0], weight=torch.cat([one.weight for one in same])) for same in stacks.values()
    ]
