"""Wider widths as a transaction: made on a copy, proved against the original, or refused."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.atoms import Axis
from lilliput.shapes.copies import Copies, Filling
from lilliput.shapes.cutting import named_width, resized, step_name
from lilliput.shapes.graphmodel import graph_model
from lilliput.shapes.proof import EXACT, Reference
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Shape

_COPIES = Filling()


def widen(
    model: nn.Module,
    shape: Shape,
    *,
    units: Mapping[str, Sequence[int] | Axis],
    inputs: Any,
    filling: Filling = _COPIES,
    exact: bool = True,
) -> Reshaped:
    """Copies units of widths. The model is left as it was.

    Args:
        model: The model that `shape` was made of.
        shape: Its widths.
        units: Name of a width -> which old unit each new one is, as of `copied_units`.
        inputs: One example batch.
        filling: What the weights of the copies are.
        exact: Refuse what does not answer as the original; else the larger model is checked
            against its own graph, and its notes say what could not be kept.

    Returns:
        The user's own class with larger weights where that answers as it should, else the
        captured graph.

    Raises:
        ShapeError: The width does not exist (the nearest is named) or is frozen (why), or the
            larger model would answer otherwise (why).
    """
    copies = Copies(
        shape, {name: _checked(shape, name, new) for name, new in units.items()}, filling
    )
    step, lost = step_name("widening", units), copies.losses()
    if lost and exact:
        raise ShapeError(
            f"{step} cannot keep the answers: {'; '.join(lost)}", "exact=False does it all the same"
        )
    reference = Reference(model, copies, inputs)
    if not lost:
        return resized(model, copies, reference=reference, step=step, within=EXACT)
    graph = graph_model(shape.captured.graph, copies)
    worst = max(check.difference for check in reference.compare(graph))
    found = resized(model, copies, reference=reference.answered_by(graph), step=step)
    note = f"it answers otherwise than the original, by {worst:.1e} of the largest output"
    return replace(found, notes=(note, *lost))


def keeps_answers(shape: Shape, name: str, *, units: Sequence[int] | Axis) -> bool:
    """Whether copies of a width's units can do together what one did."""
    return not Copies(shape, {name: np.asarray(units, np.int64)}).losses()


def copied_units(width: int, factor: float, *, seed: int) -> Axis:
    """Which old unit each unit of a wider width is.

    All are copied equally often but for a rest, which is drawn.

    Args:
        width: How many units there are.
        factor: How many times as many there will be, above 1.
        seed: Of the draw.

    Returns:
        (new units,) numbers of old ones, ascending; at least one more than `width`.
    """
    size = max(round(width * factor), width + 1)
    times = np.full(width, math.floor(size / width))
    drawn = torch.randperm(width, generator=torch.Generator().manual_seed(seed))
    times[drawn[: size % width].numpy()] += 1
    return np.repeat(np.arange(width), times)


def _checked(shape: Shape, name: str, new: Sequence[int] | Axis) -> Axis:
    width = named_width(shape, name)
    units = np.sort(np.asarray(new, dtype=np.int64))
    if width.frozen:
        raise ShapeError(f"{name} cannot be widened: {width.frozen}")
    if not np.array_equal(np.unique(units), np.arange(width.units)):
        raise ShapeError(f"widening keeps all {width.units} units of {name} and copies some")
    return units
