"""What reads a width: which columns of which weights belong to each of its units."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lilliput.model.capture import Capture
from lilliput.model.gradients import Probe, observe_gradients
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
    read = np.concatenate([np.zeros(0, np.int64), *shape.flow.readers])
    numbers: dict[str, Tensor] = {}
    for tie in width.ties:
        site = shape.captured.sites.get(tie.weight)
        axis = shape.flow.sources[tie.weight].axes[tie.axis]
        if site is None or not np.isin(axis[tie.positions[0]], read).all():
            continue
        along = torch.full([len(axis)], -1)
        along[torch.from_numpy(tie.positions)] = torch.arange(width.units)[:, None]
        sizes = [-1 if place == tie.axis else 1 for place in range(len(site.shape))]
        known = numbers.get(site.name, torch.full(site.shape, -1))
        numbers[site.name] = torch.maximum(known, along.reshape(sizes))
    sites = [shape.captured.sites[name] for name in shape.captured.sites if name in numbers]
    return [Columns(site, _places(site.matrix(numbers[site.name])[0], width)) for site in sites]


def _places(line: Tensor, width: Width) -> Tensor:
    """(units, p) places of each unit's number in a line."""
    return torch.stack([(line == unit).nonzero().squeeze(1) for unit in range(width.units)])


def observed(
    model: nn.Module, shape: Shape, *, columns: Iterable[Columns], batches: Iterable[Any]
) -> dict[str, Moments]:
    """Moments of the weights named, those that were multiplied with something.

    Raises:
        TaskError: There is no batch, or NaN or infinity flows into a weight.
    """
    moments = observe(_only(shape.captured, columns), model, batches)
    return {name: one for name, one in moments.items() if one.second is not None and one.count}


def worth(
    model: nn.Module,
    shape: Shape,
    *,
    columns: Iterable[Columns],
    batches: Iterable[Any],
    probe: Probe,
) -> dict[str, Tensor]:
    """What an error in the results of the weights named is worth to the model's output.

    Returns:
        Name -> (rows, rows), or (rows,) its diagonal; per example, so that places that are used
        more often count more.
    """
    captured = _only(shape.captured, columns)
    found = observe_gradients(captured, model, batches, probe=probe)
    places = {name: captured.macs[name] / captured.sites[name].size for name in found}
    return {name: side * places[name] for name, side in found.items()}


def _only(captured: Capture, columns: Iterable[Columns]) -> Capture:
    """The same capture with fewer weights that are watched."""
    names = {one.site.name for one in columns}
    return replace(
        captured,
        sites={name: site for name, site in captured.sites.items() if name in names},
        uses=tuple(use for use in captured.uses if use.site in names),
    )
