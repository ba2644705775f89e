"""Biases, norms and other small weights, rounded to half precision where that is harmless."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.floats import rounded_floats

SMALLEST = 2.0**-14  # smaller numbers lose precision in half precision


class QuantizeFloat16(Fields):
    """Rounds to what half precision holds exactly; the type stays, so any runtime can read it.

    A parameter in which a number is too large, or too small to keep 11 bits, is left alone.
    """

    name: ClassVar[str] = "quantize_float16"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "IEEE 754-2019 binary16"
    summary: ClassVar[str] = "small float weights stored in half precision"
    takes_any: ClassVar[bool] = True
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """One: half of the bytes where that is harmless, no damage worth counting."""
        value = profile.parameters[where].detach()
        size = value.numel()
        return (Option({}, 0.0, (2.0 if harmless(value) else 4.0) * size, 4 * size),)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """The named parameters, rounded; those that would be harmed are left out."""
        return rounded_floats(profile, where, made=made, kind=torch.float16, harmless=harmless)


def harmless(value: Tensor) -> bool:
    """Whether half precision changes no number by more than one part in 2048."""
    size = value.abs()
    fits = (size <= torch.finfo(torch.float16).max) & ((size >= SMALLEST) | (size == 0))
    return bool(fits.all())
