"""Weights rounded to eight bits of precision at the range of single precision."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.records import LimitName
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.floats import rounded_floats

PACKED_BYTES = 1.5  # a weight's sign and 7 bits do not compress, its exponent does


class QuantizeBfloat16(Fields):
    """Rounds to what bfloat16 holds exactly; the type stays, so any runtime can read it.

    No number is too large or too small for it; each changes by at most one part in 256. A parameter
    with numbers that are not finite is left alone.
    """

    name: ClassVar[str] = "quantize_bfloat16"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Kalamkar et al. 2019, arXiv 1905.12322"
    summary: ClassVar[str] = "float weights with eight bits of precision and float32's range"
    # No candidate by itself: half precision rounds less at equal bytes.
    serves: ClassVar[frozenset[LimitName] | None] = frozenset()
    takes_any: ClassVar[bool] = True
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """One; a parameter that is no site is not probed, and has no damage worth counting."""
        size, damage = profile.parameters[where].numel(), 0.0
        known = profile.sites.get(where)
        if known is not None:
            weight = profile.matrix(where)
            lost = known.damage(weight, weight.to(torch.bfloat16).to(torch.float32))
            damage = lost * (known.sensitivity or 0.0)
        return (Option({}, damage, PACKED_BYTES * size, 4 * size),)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """The named parameters, rounded."""
        return rounded_floats(profile, where, made=made, kind=torch.bfloat16, harmless=_finite)


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value.to(torch.bfloat16)).all())
