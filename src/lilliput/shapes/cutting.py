"""One cut as a transaction: checked, applied to a copy, proved, and kept or refused."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from lilliput.errors import ShapeError
from lilliput.model.hashes import model_hash, values_hash
from lilliput.shapes.graphmodel import graph_model
from lilliput.shapes.ownclass import own_classes
from lilliput.shapes.proof import ROUNDING, Reference
from lilliput.shapes.proving import Build, first_proved
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Shape, Width


def cut(
    model: nn.Module, shape: Shape, *, units: Mapping[str, Sequence[int]], inputs: Any
) -> Reshaped:
    """Removes units of widths. The model is left as it was.

    The removal itself is proved: with the weights that read the removed units set to zero, the
    original answers the same up to rounding, at two batch sizes and, where the model takes them,
    two input sizes.

    Args:
        model: The model that `shape` was made of.
        shape: Its widths.
        units: Name of a width -> numbers of the units that stay.
        inputs: One example batch.

    Returns:
        The user's own class with smaller weights where that answers as it should, else the
        captured graph.

    Raises:
        ShapeError: The width does not exist (the nearest is named) or is frozen (why), nothing
            would be left of it, the model has changed since `shape` was made, or no smaller model
            answers as it should.
    """
    _check_unchanged(model, shape)
    kept = Kept(shape, {name: _checked(shape, name, left) for name, left in units.items()})
    reference = Reference(model, kept, inputs)
    found = resized(model, kept, reference=reference, step=step_name("cutting", units))
    mixed = [norm for name in kept.units for norm in shape.widths[name].norms]
    notes = [f"{norm} mixes what was cut with what stays" for norm in dict.fromkeys(mixed)]
    return replace(found, notes=tuple(notes))


def resized(
    model: nn.Module, kept: Kept, *, reference: Reference, step: str, within: float = ROUNDING
) -> Reshaped:
    """A model over other weights that answers as it should: the user's class, else its graph.

    Args:
        model: The original.
        kept: Which units stay or are copied.
        reference: What it should answer.
        step: What is done, for the refusal.
        within: What may be left of a difference, over the largest output.

    Raises:
        ShapeError: None does.
    """

    def builds() -> Iterator[Build]:
        for candidate in own_classes(model, kept):
            yield "class", partial(_itself, candidate)
        yield "graph", lambda: graph_model(kept.shape.captured.graph, kept).train(model.training)

    found = first_proved(builds(), reference, what=step, within=within)
    return replace(found, kept=kept)


def _itself(candidate: nn.Module) -> nn.Module:
    return candidate


def step_name(verb: str, units: Mapping[str, object]) -> str:
    """What is done to which widths, the first three of them."""
    return f"{verb} {', '.join(list(units)[:3])}{', ...' if len(units) > 3 else ''}"


def named_width(shape: Shape, name: str) -> Width:
    """A width by its name.

    Raises:
        ShapeError: There is none; names the nearest.
    """
    if name in shape.widths:
        return shape.widths[name]
    close = difflib.get_close_matches(name, shape.widths, n=1)
    raise ShapeError(
        f"the model has no width {name!r}", f"did you mean {close[0]}?" if close else ""
    )


def _check_unchanged(model: nn.Module, shape: Shape) -> None:
    """The model still is what its widths were found in.

    Raises:
        ShapeError: Its weights have other names, shapes or values.
    """
    if model_hash(model) != shape.captured.model_hash:
        changed = "names and shapes"
    elif shape.values and values_hash(model) != shape.values:
        changed = "values"
    else:
        return
    raise ShapeError(
        f"the model has changed since its widths were found: its weights have other {changed}",
        "call shape_of(model, inputs) again",
    )


def _checked(shape: Shape, name: str, left: Sequence[int]) -> Any:
    width = named_width(shape, name)
    kept = np.unique(np.asarray(left, dtype=np.int64))
    if width.frozen:
        raise ShapeError(f"{name} cannot be cut: {width.frozen}")
    if not kept.size:
        raise ShapeError(f"nothing would be left of {name}: keep at least one of {width.units}")
    if kept[0] < 0 or kept[-1] >= width.units:
        raise ShapeError(f"{name} has units 0 to {width.units - 1}, got {kept[0]} to {kept[-1]}")
    return kept
