"""Rounding to codes times powers of two, for processors without floating point."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.records import LimitName
from lilliput.techniques.base import Option
from lilliput.techniques.earlier import weight_left
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.grid_storage import as_grid
from lilliput.tensor.fixed import fixed_codes, row_exponents


class QuantizeFixedPoint(Fields):
    """Rounds every weight to a code times a power of two, one power per row. Needs no data.

    Where the export folds a BatchNorm into the rows, it is the folded rows that get powers of two.
    With ``--arithmetic fixed`` the whole artifact computes in integers.

    Attributes:
        bits: Width of the codes, 2 to 8.
    """

    name: ClassVar[str] = "quantize_fixed_point"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Lin et al. 2016, arXiv 1511.06393"
    summary: ClassVar[str] = "round to nearest, one power of two per output row: shifts only"
    serves: ClassVar[frozenset[LimitName] | None] = frozenset()  # asked for by its arithmetic

    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    bits: int = Field(8, ge=2, le=8, json_schema_extra={"unit": "bits"})

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Widths from 8 down to 2."""
        known, weight = profile.sites[where], profile.matrix(where)
        options = []
        for bits in range(8, 1, -1):
            codes, steps = _rounded(profile, where, weight, bits)
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
            weight = weight_left(profile, name, made=made)
            codes, steps = _rounded(profile, name, weight, self.bits)
            grids[name] = as_grid(profile.sites[name].site, codes, row_steps=steps)
        return grids


def _rounded(profile: Profile, where: str, weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes (out, in) and row steps (out,): powers of two once the row's factor is on them."""
    sizes = profile.sites[where].row_sizes
    stored = weight * sizes[:, None]
    exponents = row_exponents(stored, bits)
    codes = fixed_codes(stored.double().numpy(), exponents[:, None].numpy(), bits=bits)
    steps = torch.exp2(-exponents.to(torch.float32)) / sizes
    return torch.from_numpy(codes).to(torch.int32), steps
