"""What techniques that narrow share: their fields, the widths they work on, and the cut."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, Self

from pydantic import Field
from torch import Tensor, nn

from lilliput.batches import flatten_tensors
from lilliput.errors import ShapeError, TaskError
from lilliput.model.gradients import Probe
from lilliput.model.moments import Moments
from lilliput.shapes.cutting import cut, named_width
from lilliput.shapes.readings import Columns, columns_of, observed
from lilliput.shapes.refitting import refit, write
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Shape, Width, shape_of
from lilliput.tensor.removal import kept_units

Scope = Literal["uniform", "global"]
Refit = Literal["least_squares", "none"]
Output = Literal["numbers", "classes"]
REMOVE = Field(0.5, gt=0, lt=1, json_schema_extra={"unit": "share of units removed"})
MULTIPLE = Field(8, ge=1, le=64, json_schema_extra={"unit": "units"})
DRAWS = Field(4, ge=1, le=64, json_schema_extra={"unit": "directions"})
SEED = Field(0, ge=0, le=65535, json_schema_extra={"unit": "seed"})
_UNROUNDED = ("heads", "key-value groups")


def probe_of(output: Output, *, draws: int, seed: int) -> Probe:
    """How the model's output is probed, by what it is."""
    likelihood: Literal["softmax", "gaussian"] = "softmax" if output == "classes" else "gaussian"
    return Probe(likelihood=likelihood, draws=draws, seed=seed)


class Narrows(Protocol):
    """The fields that say how many units go."""

    @property
    def remove(self) -> float:
        """Share of the units."""
        ...

    @property
    def scope(self) -> Scope:
        """Each width by itself, or all together."""
        ...

    @property
    def multiple(self) -> int:
        """What is left of a width is a multiple of it."""
        ...

    @property
    def refit(self) -> Refit:
        """Whether what reads the widths is fitted anew."""
        ...


@dataclass(frozen=True)
class Subject:
    """The model to be narrowed, and what it is judged by.

    Attributes:
        model: As the user gave it; it is not changed.
        inputs: One example batch.
        shape: Its widths.
        widths: Those to be narrowed, all free.
        batches: Calibration inputs, at least one batch.
    """

    model: nn.Module
    inputs: Any
    shape: Shape
    widths: tuple[Width, ...]
    batches: tuple[Any, ...]

    @classmethod
    def of(
        cls, model: nn.Module, inputs: Any, *, where: tuple[str, ...], batches: Iterable[Any] | None
    ) -> Self:
        """Captures the model and looks its widths up.

        Raises:
            ShapeError: A width does not exist or is frozen, or none is free.
            TaskError: There is no batch of calibration inputs.
        """
        given = (inputs,) if batches is None else tuple(batches)
        if not given:
            raise TaskError("there are no calibration examples", "give at least one batch")
        shape = shape_of(model, inputs, dynamic=varying([inputs, *given]))
        return cls(model, inputs, shape, free_widths(shape, where), given)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Parameters by all their names."""
        return dict(self.model.named_parameters(remove_duplicate=False))

    @cached_property
    def columns(self) -> dict[str, list[Columns]]:
        """Width -> the columns of weights that read it."""
        return {width.name: columns_of(self.shape, width) for width in self.widths}

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """Of the weights that read the widths, by name."""
        every = [one for columns in self.columns.values() for one in columns]
        return observed(self.model, self.shape, columns=every, batches=self.batches)

    def seen(self, width: Width) -> list[Columns]:
        """The columns that read a width and whose inputs were observed.

        Raises:
            ShapeError: There are none.
        """
        found = [one for one in self.columns[width.name] if one.site.name in self.moments]
        if not found:
            raise ShapeError(
                f"nothing that reads {width.name} could be observed",
                "narrow_magnitude needs no observation",
            )
        return found

    def first_of(self, name: str) -> bool:
        """Whether a weight is named here for the first time; ties are counted once."""
        return name in self.shape.flow.twins.values()


def varying(batches: Sequence[Any]) -> list[tuple[int, ...]]:
    """Per flattened input, the axes beside the batch whose sizes differ between batches."""
    sizes = [[tuple(one.shape) for one in flatten_tensors(batch)] for batch in batches]
    return [
        tuple(
            axis
            for axis, seen in enumerate(zip(*shapes, strict=True))
            if axis and len(set(seen)) > 1
        )
        for shapes in zip(*sizes, strict=True)
    ]


def free_widths(shape: Shape, where: tuple[str, ...]) -> tuple[Width, ...]:
    """The named widths; without names all that are free.

    Raises:
        ShapeError: One does not exist (the nearest is named) or is frozen (why), or none is free.
    """
    named = [named_width(shape, name) for name in dict.fromkeys(where)]
    frozen = next((width for width in named if not width.free), None)
    if frozen is not None:
        raise ShapeError(f"{frozen.name} cannot be narrowed: {frozen.frozen}")
    found = tuple(named or (width for width in shape.widths.values() if width.free))
    if not found:
        raise ShapeError("no width of the model is free")
    return found


def comparable(scores: Tensor) -> Tensor:
    """Scores divided by their mean, so that those of several widths can be ranked together."""
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def multiple_of(technique: Narrows, width: Width) -> int:
    """What the number of units that a width keeps is a multiple of."""
    return 1 if width.kind in _UNROUNDED else technique.multiple


def narrowed(technique: Narrows, subject: Subject, *, scores: Mapping[str, Tensor]) -> Reshaped:
    """Cuts the units of the lowest scores.

    Args:
        technique: How many go.
        subject: The model.
        scores: Width -> what its units are worth, (units,).
    """
    kept = kept_units(
        [scores[width.name] for width in subject.widths],
        technique.remove,
        multiples=[multiple_of(technique, width) for width in subject.widths],
        together=technique.scope == "global",
    )
    names = [width.name for width in subject.widths]
    units = {name: left.tolist() for name, left in zip(names, kept, strict=True)}
    found = cut(subject.model, subject.shape, units=units, inputs=subject.inputs)
    return found if technique.refit == "none" else _refitted(subject, found)


def _refitted(subject: Subject, found: Reshaped) -> Reshaped:
    if found.kept is None:
        return found
    fitted = refit(subject.model, found.kept, batches=subject.batches)
    write(fitted, found.model, kept=found.kept)
    notes = [*found.notes, *fitted.notes]
    if fitted.fitted:
        notes.append(f"fitted anew after the proof: {', '.join(fitted.fitted)}")
    return replace(found, notes=tuple(notes))
