"""Replaces blocks by linear maps."""

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.blocks import Block
from lilliput.shapes.flow import operator_name
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.rules.products import CONVOLUTIONS
from lilliput.shapes.standins import LinearStream
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.shortening import BLOCKS, REMOVE, Maps, Trunk, shortened
from lilliput.tensor.linear_maps import PairSums


class ShortenLinear(Fields):
    """Replaces blocks by the linear maps that answer most alike on the calibration inputs.

    A map is ``x + A x + b`` over the channels, fitted by least squares to what the block gives;
    the blocks are those that cost least, measured one after another.

    Attributes:
        blocks: How many are replaced, 1 to 1000.
        remove: Share of the blocks instead, rounded, in [0, 1); 0 leaves it to ``blocks``.
        rank: Of A, up to 65536; 0 for any.
        classes: Whether the outputs' last axis holds class scores, so that divergence is in nats.
    """

    name: ClassVar[str] = "shorten_linear"
    family: ClassVar[Family] = "shorten"
    source: ClassVar[str] = "Razzhigaev et al. 2024, arXiv 2405.12250"
    summary: ClassVar[str] = "replace residual blocks by the best linear maps"

    blocks: int = BLOCKS
    remove: float = REMOVE
    rank: int = Field(0, ge=0, le=65536, json_schema_extra={"unit": "directions"})
    classes: bool = False

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A shorter copy with its proof; `where` names the blocks among which it chooses."""
        trunk = Trunk.of(model, inputs, where=where, batches=batches, classes=self.classes)

        def make(taken: Maps, left: list[Block]) -> Maps:
            return self._maps(trunk, taken, left)

        return shortened(self, trunk, make=make)

    def _maps(self, trunk: Trunk, taken: Maps, left: list[Block]) -> Maps:
        """Maps of what blocks are given now to what they gave in the original."""
        second = {block: _second(trunk, block) for block in left}
        channels = {one: one.size[1 if second[one] else -1] for one in left}
        for block, count in channels.items():
            if count is None:
                raise ShapeError(f"{block.name} has no fixed number of channels")
        sums = {one: PairSums(count or 0, count or 0) for one, count in channels.items()}
        before, after = trunk.bypassed({}), trunk.bypassed(taken)
        for batch in trunk.answers.batches:
            given = before.values(batch, [one.exit for one in left])
            now = after.values(batch, [one.entry for one in left])
            for one in left:
                axis = 1 if second[one] else -1
                x = now[one.entry].movedim(axis, -1).flatten(0, -2)
                y = given[one.exit].movedim(axis, -1).flatten(0, -2)
                sums[one].add(x, y - x)
        return {
            one: LinearStream(*sums[one].fitted(rank=self.rank), second=second[one]).eval()
            for one in left
        }


def _second(trunk: Trunk, block: Block) -> bool:
    """Whether the channels are the second axis: convolutions read the stream."""
    nodes = [n for n in trunk.shape.captured.graph.graph.nodes if n.name in block.inside]
    return len(block.size) > 2 and any(operator_name(node) in CONVOLUTIONS for node in nodes)
