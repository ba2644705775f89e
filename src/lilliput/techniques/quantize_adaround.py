"""Whether each weight is rounded up or down is learned under the layer's loss."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.records import LimitName
from lilliput.techniques.base import Option
from lilliput.techniques.earlier import mask_of, weight_left
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.grouping import (
    BITS,
    Columns,
    as_grouped,
    ranges_of,
    widths,
)
from lilliput.tensor.adaround import learned_codes


class QuantizeAdaround(Fields):
    """Learns a number in [0, 1] per weight, which ends at either side: up or down.

    Layer by layer under ``tr(G (W - V) H (W - V)^T)``, whose gradient needs no backward pass
    through the model; G is the whole row side where it is known.

    Attributes:
        bits: Width of the codes, 2 to 8.
        group: Neighbouring columns that share a step.
        symmetric: The middle code means zero everywhere; otherwise each group has a code for it.
        clip: Ends of a grid are drawn in where that lowers the cost of rounding.
        iterations: Steps of gradient descent.
        packed: The runnable file computes on packed codes, where its operators can.
    """

    name: ClassVar[str] = "quantize_adaround"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Nagel et al. 2020, arXiv 2004.10568"
    summary: ClassVar[str] = "learned rounding up or down, layer by layer"
    # No candidate by itself: takes minutes per model; for plans by hand.
    serves: ClassVar[frozenset[LimitName] | None] = frozenset()
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    bits: int = BITS
    group: Columns = 64
    symmetric: bool = False
    clip: bool = True
    iterations: int = Field(200, ge=1, le=20_000, json_schema_extra={"unit": "steps"})
    packed: bool = True

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Widths 8, 4, 3 and 2."""
        return widths(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as codes of few bits."""
        found: dict[str, Encoding] = {}
        for name in where:
            known, weight = profile.sites[name], weight_left(profile, name, made=made)
            side = profile.column_side(name)
            costs = side.diagonal(dim1=1, dim2=2).repeat_interleave(len(weight) // len(side), 0)
            ranges = ranges_of(self, weight, clip=self.clip, costs=costs)
            codes = learned_codes(
                weight,
                ranges,
                second=side,
                output=known.row_side,
                iterations=self.iterations,
                kept=mask_of(known, made),
            )
            found[name] = as_grouped(self, known.site, part=(ranges, codes), wanted=weight)
        return found
