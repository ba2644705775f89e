"""Plain rounding to nearest on a symmetric grid with one step per row."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field

from lilliput.coding import estimate_bits
from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.grid_storage import as_grid
from lilliput.tensor.grids import absolute_maximum_steps, round_to_grid


class QuantizeRound(Fields):
    """Rounds every weight to the nearest of 2**bits - 1 points per row. Needs no data.

    Attributes:
        bits: Width of the codes, 2 to 8.
    """

    name: ClassVar[str] = "quantize_round"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Jacob et al. 2018, arXiv 1712.05877"
    summary: ClassVar[str] = "round to nearest, one symmetric step per output row"

    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    bits: int = Field(8, ge=2, le=8, json_schema_extra={"unit": "bits"})

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Widths from 8 down to 2."""
        known, weight = profile.sites[where], profile.matrix(where)
        options = []
        for bits in range(8, 1, -1):
            steps = absolute_maximum_steps(weight, bits)
            codes = round_to_grid(weight, steps[:, None])
            damage = known.damage(weight, codes * steps[:, None])
            options.append(
                Option(
                    {"bits": bits},
                    damage * (known.sensitivity or 0.0),
                    estimate_bits(codes.numpy()) / 8,
                    codes.numel(),
                )
            )
        return tuple(options)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as int8 codes."""
        grids: dict[str, Encoding] = {}
        for name in where:
            weight = profile.matrix(name)
            if name in made:
                weight = profile.sites[name].site.matrix(made[name].decode()).to(torch.float32)
            steps = absolute_maximum_steps(weight, self.bits)
            codes = round_to_grid(weight, steps[:, None])
            grids[name] = as_grid(profile.sites[name].site, codes, row_steps=steps)
        return grids
