"""Plain rounding to nearest, with one step per row or one for all."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import NOTHING, Encoding, Grid, Grouped, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.model.sites import Site
from lilliput.techniques.base import Option
from lilliput.techniques.earlier import weight_left
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.grid_storage import as_grid
from lilliput.techniques.grouping import storage_bytes
from lilliput.tensor.grids import (
    FEW_BITS_SHARES,
    absolute_maximum_steps,
    clipped_steps,
    round_to_grid,
)
from lilliput.tensor.ranges import Ranges, full_ranges


class QuantizeRound(Fields):
    """Rounds every weight to the nearest point of its row's grid. Needs no data.

    Attributes:
        bits: Width of the codes, 2 to 8.
        per: A step per output ``row`` (per channel), or one for the whole ``tensor``.
        symmetric: Zero is the middle of 2**bits - 1 points. Otherwise the 2**bits points reach from
            the lowest to the highest weight, and each row also has a code that means zero.
        clip: The largest weights are clipped where that lowers the squared error of the row:
            with few bits it does. Only of symmetric grids.
    """

    name: ClassVar[str] = "quantize_round"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Jacob et al. 2018, arXiv 1712.05877"
    summary: ClassVar[str] = "round to nearest, one step per output row or per tensor"

    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    bits: int = Field(8, ge=2, le=8, json_schema_extra={"unit": "bits"})
    per: Literal["row", "tensor"] = "row"
    symmetric: bool = True
    clip: bool = False

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Widths from 8 down to 2."""
        known, weight = profile.sites[where], profile.matrix(where)
        options, worst = [], 0.0
        for bits in range(8, 1, -1):
            made = self.model_copy(update={"bits": bits})._rounded(known.site, weight)
            lost = known.damage(weight, known.site.matrix(made.decode()))
            worst = max(worst, lost * (known.sensitivity or 0.0))
            size = estimate_bits(made.codes.numpy()) / 8
            size = storage_bytes(made) if isinstance(made, Grouped) else size
            options.append(Option({"bits": bits}, worst, size, made.codes.numel()))
        return tuple(options)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as codes of one byte."""
        found: dict[str, Encoding] = {}
        for name in where:
            weight = weight_left(profile, name, made=made)
            found[name] = self._rounded(profile.sites[name].site, weight)
        return found

    def _rounded(self, site: Site, weight: Tensor) -> Grid | Grouped:
        if not self.symmetric:
            return self._lopsided(site, weight)
        rows = weight if self.per == "row" else weight.reshape(1, -1)
        steps = self._steps(rows).expand(len(weight)).contiguous()
        most = 2 ** (self.bits - 1) - 1
        codes = round_to_grid(weight, steps[:, None]).clamp(-most, most)
        return as_grid(site, codes, row_steps=steps)

    def _steps(self, rows: Tensor) -> Tensor:
        if not self.clip:
            return absolute_maximum_steps(rows, self.bits)
        return clipped_steps(rows, self.bits, power=torch.ones(1, 1), shares=FEW_BITS_SHARES)

    def _lopsided(self, site: Site, weight: Tensor) -> Grouped:
        """As one group of all columns; decoded when loaded, since no packed operator takes it."""
        rows = weight if self.per == "row" else weight.reshape(1, -1)
        one = full_ranges(rows, self.bits, group=rows.shape[1], symmetric=False)
        steps, zeros = (part.expand(len(weight), 1) for part in (one.steps, one.zeros))
        ranges = Ranges(steps.contiguous(), zeros.contiguous(), self.bits, weight.shape[1])
        return Grouped(
            codes=ranges.codes(weight).to(torch.uint8).contiguous(),
            steps=ranges.steps,
            zeros=ranges.zeros.to(torch.uint8),
            bits=self.bits,
            group=weight.shape[1],
            column_steps=None,
            shape=site.shape,
            transposed=site.transposed,
            packed=False,
        )
