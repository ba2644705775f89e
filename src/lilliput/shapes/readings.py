"""What reads a width: which columns of which weights belong to each of its units."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lilliput.model.moments import Moments
from lilliput.model.observe import observe
from lilliput.model.sites import Site
from lilliput.shapes.widths import Shape, Width


@dataclass(frozen=True)
class Columns:
    """Columns of a weight's matrix view that read a width.

    Attributes:
        site: The weight.
        places: (units, p) columns of each unit; of every group of the weight the same.
    """

    site: Site
    places: Tensor


def columns_of(shape: Shape, width: Width) -> list[Columns]:
    """The weights that read a width, in the order of the graph."""
    units = shape.units[width.name]
    read = {int(atom) for axis in shape.flow.readers for atom in axis}
    found = []
    for name, site in shape.captured.sites.items():
        numbers = torch.full(site.shape, -1)
        for place, axis in enumerate(shape.flow.sources[name].axes):
            own = np.isin(shape.settled.units(axis), units) & np.isin(axis, list(read))
            if own.any():
                along = torch.from_numpy(np.where(own, shape.settled.units(axis), -1))
                sizes = [1] * len(site.shape)
                sizes[place] = -1
                numbers = torch.maximum(numbers, along.reshape(sizes))
        line = site.matrix(numbers)[0]
        if bool((line >= 0).any()):
            places = [(line == unit).nonzero().squeeze(1) for unit in units.tolist()]
            found.append(Columns(site, torch.stack(places)))
    return found


def observed(
    model: nn.Module, shape: Shape, columns: Iterable[Columns], *, batches: Iterable[Any]
) -> dict[str, Moments]:
    """Moments of the weights named, those that were multiplied with something.

    Raises:
        TaskError: There is no batch, or NaN or infinity flows into a weight.
    """
    names = {one.site.name for one in columns}
    captured = replace(
        shape.captured,
        sites={name: site for name, site in shape.captured.sites.items() if name in names},
        uses=tuple(use for use in shape.captured.uses if use.site in names),
    )
    moments = observe(captured, model, batches)
    return {name: one for name, one in moments.items() if one.second is not None and one.count}
