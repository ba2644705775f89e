"""`grow`: a larger model with the same answers."""

import difflib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack

from torch import Tensor, nn

from lilliput.errors import PlanError
from lilliput.records import Step
from lilliput.shapes.proof import Reference
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.rows import larger_vocabulary, vocabulary
from lilliput.shapes.widths import shape_of
from lilliput.techniques import structural_from_step


class Growth(TypedDict, total=False):
    """What grows, and how; what is not given stays.

    Attributes:
        width: How many times as many channels, neurons and heads, above 1.
        depth: How many blocks more.
        vocabulary: How many words more, or (words, size) rows for them.
        classes: How many classes more.
        resolution: How many times as long the sides of images, above 1.
        widths: Names of the widths that grow; by default all that keep the answers.
        blocks: Names of the blocks behind which others are inserted; by default spread evenly.
        fill: Whether copies of units share what is read of them, or nothing is read of them yet.
        noise: Standard deviation of the noise that makes copies differ, over that of the weight.
        seed: Of the noise and of the units that are copied.
        exact: Refuse widths that would change the answers.
    """

    width: float
    depth: int
    vocabulary: int | Tensor
    classes: int
    resolution: float
    widths: Iterable[str]
    blocks: Iterable[str]
    fill: Literal["copy", "zero"]
    noise: float
    seed: int
    exact: bool


_AMOUNTS = {  # in the order in which they are done: the model takes the old inputs up to the last
    "classes": ("grow_classes", "classes", ""),
    "vocabulary": ("grow_vocabulary", "words", ""),
    "depth": ("grow_depth", "blocks", "blocks"),
    "width": ("grow_width", "factor", "widths"),
    "resolution": ("grow_resolution", "factor", ""),
}
_SETTINGS = ("fill", "noise", "seed", "exact")


def grow(model: nn.Module, inputs: Any, **growth: Unpack[Growth]) -> nn.Module:
    """A larger copy of a model: `grown` without its proof. Takes the same arguments."""
    return grown(model, inputs, **growth).model


def grown(model: nn.Module, inputs: Any, **growth: Unpack[Growth]) -> Reshaped:
    """A larger copy of a model that answers as before, with the proof. The model stays as it was.

    Args:
        model: Any module that can be captured.
        inputs: One example batch: tensor, tuple or mapping.
        **growth: What grows: see `Growth`.

    Raises:
        CaptureError: The model cannot be captured.
        PlanError: Nothing is to grow, an argument is unknown, or a value is out of range.
        ShapeError: A name does not exist or is frozen, or the larger model would answer otherwise.
        TaskError: The model does not run on `inputs`.
    """
    steps = growth_steps(**growth)
    found: Reshaped | None = None
    notes: list[str] = []
    for step in steps:
        last = found.model if found else model
        after = _one_step(last, step, growth.get("vocabulary"), inputs=inputs)
        how = "graph" if found and found.how == "graph" else after.how
        found = replace(after, how=how)
        notes += [note for note in after.notes if note not in notes]
    if found is None:
        raise PlanError("nothing is to grow", f"give one of {', '.join(_AMOUNTS)}")
    if len(steps) > 1 and growth.get("exact", True) and "resolution" not in growth:
        reference = Reference(model, Kept(shape_of(model, inputs), {}), inputs)
        found = replace(found, checks=tuple(reference.compare(found.model, longer=True)))
    return replace(found, notes=tuple(notes))


def growth_steps(**growth: Unpack[Growth]) -> tuple[Step, ...]:
    """The same as entries of a plan, in the order in which they are done.

    Raises:
        PlanError: An argument is unknown.
    """
    unknown = sorted(set(growth) - set(Growth.__annotations__))
    if unknown:
        close = difflib.get_close_matches(unknown[0], Growth.__annotations__, n=1)
        raise PlanError(
            f"grow has no argument {unknown[0]!r}",
            f"{f'did you mean {close[0]}? ' if close else ''}"
            f"known are {', '.join(Growth.__annotations__)}",
        )
    given: dict[str, Any] = dict(growth)
    steps = []
    for amount, (technique, field, places) in _AMOUNTS.items():
        if given.get(amount) is None:
            continue
        value = given[amount]
        settings = {field: len(value) if isinstance(value, Tensor) else value}
        if amount == "width":
            settings |= {name: given[name] for name in _SETTINGS if name in given}
        where = given.get(places, ())
        names = (where,) if isinstance(where, str) else tuple(where)
        steps.append(Step(technique=technique, where=names, settings=settings))
    return tuple(steps)


def _one_step(model: nn.Module, step: Step, words: int | Tensor | None, *, inputs: Any) -> Reshaped:
    technique = structural_from_step(step)
    if step.technique == "grow_vocabulary" and isinstance(words, Tensor):
        shape = shape_of(model, inputs)
        return larger_vocabulary(
            model, shape, table=vocabulary(shape)[0], rows=words, inputs=inputs
        )
    return technique.change(model, inputs, where=step.where)
