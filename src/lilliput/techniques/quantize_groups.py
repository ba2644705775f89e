"""Weights of few bits with a step per group of columns; activations stay as they are."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.earlier import mask_of, weight_left
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.grouping import (
    BITS,
    Columns,
    Part,
    as_grouped,
    ranges_of,
    widths,
)
from lilliput.tensor.grouped import feedback_grouped
from lilliput.tensor.ranges import refitted
from lilliput.tensor.second_order import damped


class QuantizeGroups(Fields):
    """Rounds each row's groups of neighbouring columns onto a grid of their own.

    Attributes:
        bits: Width of the codes, 2 to 8; the runnable file holds 2, 4 or 8 bits for each.
        group: Neighbouring columns that share a step.
        symmetric: The middle code means zero everywhere; otherwise each group has a code for it.
        method: ``round`` to nearest, or ``feedback``: columns and rows still to come absorb errors.
        clip: Ends of a grid are drawn in where that lowers the cost of rounding.
        refits: How often the steps are fitted to the codes, and the codes found anew; only with
            feedback.
        packed: The runnable file computes on packed codes (MatMulNBits), which keeps memory small;
            otherwise the runtime decodes them when it loads the file.
    """

    name: ClassVar[str] = "quantize_groups"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Frantar et al. 2022, arXiv 2210.17323; rows: arXiv 2505.22988"
    summary: ClassVar[str] = "few bits per weight, a step per group of columns"
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    bits: int = BITS
    group: Columns = 64
    symmetric: bool = False
    method: Literal["round", "feedback"] = "feedback"
    clip: bool = True
    refits: int = Field(1, ge=0, le=16, json_schema_extra={"unit": "rounds"})
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
            known = profile.sites[name]
            kept = mask_of(known, made)
            rounds = self.method == "round"  # otherwise what is kept makes up for what is removed
            weight = weight_left(profile, name, made=made) if rounds else profile.matrix(name)
            part = self._solve(weight, profile, name, kept)
            found[name] = as_grouped(self, known.site, part=part, wanted=weight)
        return found

    def _solve(self, weight: Tensor, profile: Profile, name: str, kept: Tensor | None) -> Part:
        orders, sides = profile.column_orders(name), profile.column_side(name)
        between = profile.row_factor(name)
        costs = torch.cat([one.costs.expand(len(weight) // len(sides), -1) for one in orders])
        costs = costs if kept is None else costs * kept
        ranges = ranges_of(self, weight, clip=self.clip, costs=costs)
        if self.method == "round":
            return ranges, ranges.codes(weight)
        codes = feedback_grouped(weight, orders, ranges=ranges, rows=between, kept=kept)
        for _ in range(self.refits):
            ranges = refitted(ranges, weight, codes=codes, second=damped(sides))
            codes = feedback_grouped(weight, orders, ranges=ranges, rows=between, kept=kept)
        return ranges, codes
