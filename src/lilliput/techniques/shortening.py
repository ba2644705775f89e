"""What techniques that shorten share: how many blocks, which, and what their absence costs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from pydantic import Field
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.blocks import Block, blocks_of, named_block, outermost
from lilliput.shapes.bypass import Bypassed, bypass
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Shape, shape_of
from lilliput.techniques.answers import Answers

BLOCKS = Field(1, ge=1, le=1000, json_schema_extra={"unit": "blocks"})
REMOVE = Field(0.0, ge=0, lt=1, json_schema_extra={"unit": "share of blocks removed"})
Maps = dict[Block, nn.Module]
Make = Callable[[Maps, list[Block]], Maps]


class Shortens(Protocol):
    """The fields that say how many blocks go."""

    @property
    def blocks(self) -> int:
        """Their number."""
        ...

    @property
    def remove(self) -> float:
        """Their share of those that can go; 0 leaves it to the number."""
        ...

    @property
    def classes(self) -> bool:
        """Whether the outputs hold class scores."""
        ...


@dataclass(frozen=True)
class Trunk:
    """The model to be shortened, and what it is judged by.

    Attributes:
        model: As the user gave it; it is not changed.
        inputs: One example batch.
        shape: Its capture.
        blocks: Those that may go.
        answers: What the original answers on the calibration inputs.
    """

    model: nn.Module
    inputs: Any
    shape: Shape
    blocks: tuple[Block, ...]
    answers: Answers

    @classmethod
    def of(
        cls,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...],
        batches: Iterable[Any] | None,
        classes: bool,
    ) -> Self:
        """Captures the model and looks its blocks up.

        Raises:
            ShapeError: A block does not exist or has to stay, or there is none.
            TaskError: There is no batch of calibration inputs.
        """
        answers = Answers.of(model, inputs, batches=batches, classes=classes)
        shape = shape_of(model, inputs, dynamic=answers.varying(inputs))
        known = blocks_of(shape.captured)
        named = [named_block(known, name) for name in dict.fromkeys(where)]
        found = tuple(named or outermost(known))
        if not found:
            raise ShapeError("the model has no block that can go", _reasons(known))
        if not named and len(found) == 1:
            raise ShapeError(f"{found[0].name} is the only block of the model: it has to stay")
        return cls(model, inputs, shape, found, answers)

    def count(self, technique: Shortens) -> int:
        """How many blocks go.

        Raises:
            ShapeError: More than there are, or all that the model has.
        """
        most = len(self.blocks)
        count = max(1, round(technique.remove * most)) if technique.remove else technique.blocks
        if count > most:
            raise ShapeError(f"{count} blocks were to go, {most} can: {_names(self.blocks)}")
        every = {one.name for one in outermost(blocks_of(self.shape.captured))}
        if count == most and every <= {one.name for one in self.blocks}:
            raise ShapeError(
                f"all {most} blocks were to go: at least one has to stay", "name fewer of them"
            )
        return count

    def bypassed(self, maps: Mapping[Block, nn.Module]) -> Bypassed:
        """The model with maps in the place of blocks."""
        return Bypassed(self.model, self.shape.captured.graph, maps)

    def divergence(self, maps: Mapping[Block, nn.Module]) -> float:
        """Of the outputs from the original's."""
        return self.answers.divergence(self.bypassed(maps))


def shortened(technique: Shortens, trunk: Trunk, *, make: Make) -> Reshaped:
    """Replaces blocks one by one, each time the one that costs least with the others replaced.

    Args:
        technique: How many.
        trunk: The model.
        make: Given the maps in place and the blocks left, a map for each of those.
    """
    taken: Maps = {}
    for _ in range(trunk.count(technique)):
        left = [one for one in trunk.blocks if not any(one.inside & t.inside for t in taken)]
        if not left:
            raise ShapeError(f"of {_names(trunk.blocks)} some are parts of others: name fewer")
        tried = make(taken, left)
        costs = {one: trunk.divergence({**taken, one: tried[one]}) for one in left}
        best = min(left, key=costs.__getitem__)
        taken[best] = tried[best]
    with torch.no_grad():
        found = bypass(trunk.model, trunk.shape, maps=taken, inputs=trunk.inputs)
    note = trunk.answers.told(found.model, f"without {_names(taken)}")
    return replace(found, notes=(note,))


def _names(blocks: Iterable[Block]) -> str:
    return ", ".join(one.name for one in blocks)


def _reasons(known: Mapping[str, Block]) -> str:
    frozen = [f"{name}: {one.frozen}" for name, one in known.items() if one.frozen]
    return "; ".join(frozen[:3]) or "no residual sum with weights in its branch was found"
