"""Inserts blocks or layers that start as the identity."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.blocks import Block, blocks_of, outermost
from lilliput.shapes.deepening import deepen
from lilliput.shapes.identities import (
    deepen_behind,
    deepen_plain,
    layer_places,
    plain_places,
)
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Shape, shape_of
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.growing import captured, proved_as_a_whole


class GrowDepth(Fields):
    """Copies residual blocks whose last projections are zero, so that they add nothing yet.

    In a plain stack of layers and ReLUs: layers that are the identity. Where there is neither:
    behind linear layers and convolutions a PReLU of slope one and an identity, which the notes
    name. `where` names blocks, activations of a plain stack, or layers, behind which they go;
    without it they are spread evenly over the blocks of the structure that repeats most often.

    Attributes:
        blocks: How many to insert, 1 to 256.
    """

    name: ClassVar[str] = "grow_depth"
    family: ClassVar[Family] = "grow"
    source: ClassVar[str] = "Net2DeeperNet, Chen et al. 2015, arXiv 1511.05641"
    summary: ClassVar[str] = "insert blocks that start as the identity"

    blocks: int = Field(1, ge=1, le=256, json_schema_extra={"unit": "blocks"})

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A deeper copy with its proof; needs no calibration inputs."""
        shape = captured(model, inputs, batches=batches)
        found = _Places(model, shape)
        named = [found.checked(name) for name in dict.fromkeys(where)]
        refused: list[ShapeError] = []
        for places in [named] if named else found.by_itself():
            try:
                deeper = _inserted(model, shape, _spread(places, self.blocks), inputs=inputs)
            except ShapeError as error:
                refused.append(error)
                continue
            return proved_as_a_whole(model, shape, found=deeper, inputs=inputs)
        raise (
            refused[0]
            if refused
            else ShapeError(
                "the model has no block and no layer that something could be inserted behind",
                "blocks add to what they are given; layers are linear or convolutions",
            )
        )


class _Places:
    """Where something can be inserted."""

    def __init__(self, model: nn.Module, shape: Shape) -> None:
        self.blocks = blocks_of(shape.captured)
        self.plain = plain_places(model)
        self.layers = layer_places(model, shape)

    def by_itself(self) -> list[list[str]]:
        """To be tried in turn: blocks that repeat most often, a plain stack's places, layers."""
        modules = [one for one in outermost(self.blocks) if one.module]
        families = Counter(one.alike for one in modules).most_common(1)
        repeated = [one.name for one in modules if families and one.alike == families[0][0]]
        return [places for places in (repeated, self.plain, self.layers) if places]

    def checked(self, name: str) -> str:
        """A name that something can be inserted behind.

        Raises:
            ShapeError: There is none such (the nearest is named), or why it cannot be.
        """
        known: dict[str, Block | None] = {**self.blocks, **dict.fromkeys(self.plain + self.layers)}
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ShapeError(
                f"the model has no block {name!r}", f"did you mean {close[0]}?" if close else ""
            )
        block = known[name]
        if block is not None and not block.free:
            raise ShapeError(f"nothing can be inserted behind {name}: {block.frozen}")
        return name


def _inserted(model: nn.Module, shape: Shape, names: Sequence[str], *, inputs: Any) -> Reshaped:
    """Something behind each of the names, one after the other."""
    deeper = Reshaped(model, "class", ())
    notes: dict[str, None] = {}
    for number, name in enumerate(names):
        seen = shape_of(deeper.model, inputs) if number else shape
        deeper = _behind(deeper.model, seen, name, inputs=inputs)
        notes |= dict.fromkeys(deeper.notes)
    return replace(deeper, notes=tuple(notes))


def _behind(model: nn.Module, shape: Shape, name: str, *, inputs: Any) -> Reshaped:
    block = blocks_of(shape.captured).get(name)
    if block is not None and block.module:
        return deepen(model, shape, block=block, inputs=inputs)
    if name in plain_places(model):
        return deepen_plain(model, shape, name=name, inputs=inputs)
    return deepen_behind(model, shape, name=name, inputs=inputs)


def _spread(places: Sequence[str], count: int) -> list[str]:
    """A place per insertion, spread evenly; from the last one on, so that names stay."""
    ends = [round((number + 1) * len(places) / count) - 1 for number in range(count)]
    return [places[max(end, 0)] for end in reversed(ends)]
