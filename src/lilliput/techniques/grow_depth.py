"""Inserts blocks or layers that start as the identity."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.blocks import Block, blocks_of, outermost
from lilliput.shapes.deepening import deepen
from lilliput.shapes.identities import deepen_plain, plain_places
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Shape, shape_of
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.growing import captured, proved_as_a_whole


class GrowDepth(Fields):
    """Copies residual blocks whose last projections are zero, so that they add nothing yet.

    In a plain stack of layers and ReLUs: layers that are the identity. `where` names blocks, or
    activations of a plain stack, behind which they go; without it they are spread evenly over the
    blocks of the structure that repeats most often.

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
        places = [found.checked(name) for name in dict.fromkeys(where)] or found.by_itself()
        deeper: Reshaped | None = None
        for name in _spread(places, self.blocks):
            last = deeper.model if deeper else model
            deeper = _inserted(
                last, shape_of(last, inputs) if deeper else shape, name, inputs=inputs
            )
        if deeper is None:
            raise ShapeError("nothing was inserted")
        return proved_as_a_whole(model, shape, found=deeper, inputs=inputs)


class _Places:
    """Where something can be inserted."""

    def __init__(self, model: nn.Module, shape: Shape) -> None:
        self.blocks = blocks_of(shape.captured)
        self.plain = plain_places(model)

    def by_itself(self) -> list[str]:
        """All blocks of the structure that repeats most often, else the plain stack's places."""
        modules = [one for one in outermost(self.blocks) if one.module]
        families = Counter(one.alike for one in modules)
        if families:
            return [one.name for one in modules if one.alike == families.most_common(1)[0][0]]
        if not self.plain:
            raise ShapeError(
                "the model has no residual block that is a module, and no plain stack with ReLU",
                "blocks are found where a module adds to what it is given",
            )
        return self.plain

    def checked(self, name: str) -> str:
        """A name that something can be inserted behind.

        Raises:
            ShapeError: There is none such (the nearest is named), or why it cannot be.
        """
        known: dict[str, Block | None] = {**dict.fromkeys(self.plain), **self.blocks}
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ShapeError(
                f"the model has no block {name!r}", f"did you mean {close[0]}?" if close else ""
            )
        block = known[name]
        if block is not None and not block.free:
            raise ShapeError(f"nothing can be inserted behind {name}: {block.frozen}")
        return name


def _inserted(model: nn.Module, shape: Shape, name: str, *, inputs: Any) -> Reshaped:
    block = blocks_of(shape.captured).get(name)
    if block is None:
        return deepen_plain(model, shape, name=name, inputs=inputs)
    return deepen(model, shape, block=block, inputs=inputs)


def _spread(places: Sequence[str], count: int) -> list[str]:
    """A place per insertion, spread evenly; from the last one on, so that names stay."""
    ends = [round((number + 1) * len(places) / count) - 1 for number in range(count)]
    return [places[max(end, 0)] for end in reversed(ends)]
