"""Drops whole blocks."""

from collections.abc import Iterable
from typing import Any, ClassVar

from torch import nn

from lilliput.shapes.blocks import Block
from lilliput.shapes.reshaped import Reshaped
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.shortening import BLOCKS, REMOVE, Maps, Trunk, shortened


class ShortenDrop(Fields):
    """Drops the blocks without which the model's outputs diverge least, measured one after another.

    Attributes:
        blocks: How many go, 1 to 1000.
        remove: Share of the blocks instead, rounded, in [0, 1); 0 leaves it to ``blocks``.
        classes: Whether the outputs' last axis holds class scores, so that divergence is in nats.
    """

    name: ClassVar[str] = "shorten_drop"
    family: ClassVar[Family] = "shorten"
    source: ClassVar[str] = "Veit et al. 2016, arXiv 1605.06431; Men et al. 2024, arXiv 2403.03853"
    summary: ClassVar[str] = "drop the residual blocks whose absence changes the outputs least"

    blocks: int = BLOCKS
    remove: float = REMOVE
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
        return shortened(self, trunk, make=_identities)


def _identities(_: Maps, left: list[Block]) -> Maps:
    return {block: nn.Identity() for block in left}
