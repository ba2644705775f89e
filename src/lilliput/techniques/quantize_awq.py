"""Columns that read large inputs are rounded more finely: activation-aware scaling."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.records import LimitName
from lilliput.techniques.base import Option
from lilliput.techniques.earlier import weight_left
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.grouping import BITS, Columns, Part, as_grouped, ranges_of, widths

SMALLEST_SCALE = 1e-3  # of a column, against their geometric mean


class QuantizeAwq(Fields):
    """Multiplies columns by a power of their input's size before rounding, and divides after.

    The power is searched for each site under the layer's loss. The scales stay with the site, as
    factors of its columns: the runnable file multiplies the inputs of its product with them.

    Attributes:
        bits: Width of the codes, 2 to 8.
        group: Neighbouring columns that share a step.
        symmetric: The middle code means zero everywhere; otherwise each group has a code for it.
        clip: Ends of a grid are drawn in where that lowers the cost of rounding.
        tries: Powers tried, evenly spread over [0, 1].
        packed: The runnable file computes on packed codes, where its operators can.
    """

    name: ClassVar[str] = "quantize_awq"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Lin et al. 2023, arXiv 2306.00978"
    summary: ClassVar[str] = "finer rounding for columns that read large inputs"
    # No candidate by itself: error feedback in groups costs less damage.
    serves: ClassVar[frozenset[LimitName] | None] = frozenset()
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    bits: int = BITS
    group: Columns = 64
    symmetric: bool = False
    clip: bool = True
    tries: int = Field(11, ge=2, le=64, json_schema_extra={"unit": "powers"})
    packed: bool = True

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Widths 8, 4, 3 and 2."""
        return widths(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as codes of few bits, with factors of its columns."""
        found: dict[str, Encoding] = {}
        for name in where:
            known, weight = profile.sites[name], weight_left(profile, name, made=made)
            sizes = profile.column_side(name).diagonal(dim1=1, dim2=2).mean(0).clamp_min(0).sqrt()
            part, scales = self._best(known, weight, sizes)
            found[name] = as_grouped(
                self,
                known.site,
                part=part,
                wanted=weight * scales,
                column_steps=None if bool((scales == 1).all()) else 1 / scales,
            )
        return found

    def _best(self, known: SiteProfile, weight: Tensor, sizes: Tensor) -> tuple[Part, Tensor]:
        """Grids and codes at the power with the least damage, and the columns' scales.

        Ends are drawn in once, at the power that was best without that, as in the paper.
        """
        least, best = float("inf"), torch.ones_like(sizes)
        for power in torch.linspace(0, 1, self.tries).tolist():
            scales = _scales(sizes, power)
            ranges = ranges_of(self, weight * scales, clip=False, costs=None)
            value = ranges.values(ranges.codes(weight * scales)) / scales
            lost = known.damage(weight, value)
            if lost < least:
                least, best = lost, scales
        scaled, costs = weight * best, (sizes / best).square()
        ranges = ranges_of(self, scaled, clip=self.clip, costs=costs)
        return (ranges, ranges.codes(scaled)), best


def _scales(sizes: Tensor, power: float) -> Tensor:
    """(columns,) positive, with geometric mean 1 up to rounding to half precision."""
    if not power:
        return torch.ones_like(sizes)
    logs = torch.log(sizes.clamp_min(SMALLEST_SCALE * float(sizes.mean()) + 1e-30))
    scales = torch.exp(power * (logs - logs.mean()))
    return 1 / (1 / scales).to(torch.float16).to(torch.float32)  # their inverses are stored
