"""What pruning techniques share: fields, the groups of a site, and what is left of it."""

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self

import torch
from pydantic import Field
from torch import Tensor

from lilliput.errors import PlanError
from lilliput.model.encodings import Encoding, Masked
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.techniques.base import Option
from lilliput.techniques.groups import by_group
from lilliput.tensor.masks import Pattern, fits, pattern_of, refit
from lilliput.tensor.second_order import damped

Shape = Literal["any", "2:4", "4:8", "1x4", "4x1"]
AMOUNT = Field(0.5, ge=0, lt=1, json_schema_extra={"unit": "share removed"})
AMOUNTS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def pattern_for(known: SiteProfile, shape: Shape) -> Pattern:
    """The pattern, if the site's matrix divides into its groups or blocks.

    Raises:
        PlanError: It does not; names the site and its sizes.
    """
    pattern, site = pattern_of(shape), known.site
    if not fits((site.rows // site.groups, site.columns), pattern):
        raise PlanError(
            f"pattern {shape} does not divide {site.name}, {site.rows} x {site.columns}",
            'pattern "any" fits every site',
        )
    return pattern


def left(
    known: SiteProfile, weight: Tensor, *, mask: Tensor, value: Tensor | None = None, best: bool
) -> Masked:
    """The site with the masked entries zero.

    Args:
        known: The site.
        weight: (rows, columns), untouched.
        mask: (rows, columns) bool.
        value: What the kept weights became, or None for what they were.
        best: Fits the kept weights so that the damage is least.
    """
    if best:
        value = by_group(
            known,
            weight,
            solve=lambda w, second, rows: refit(w, mask[rows], second=damped(second)),
        )
    kept = torch.where(mask, weight if value is None else value, 0.0)
    site = known.site
    return Masked(site.parameter(kept).contiguous(), site.parameter(mask).contiguous())


def alone(technique: "Prunes", together: bool) -> None:
    """Sites ranked together can only lose single weights.

    Raises:
        PlanError: A pattern was asked for as well.
    """
    if together and technique.pattern != "any":
        raise PlanError(
            f"pattern {technique.pattern} does not go with together = true",
            'either pattern "any", or each site by itself',
        )


class Prunes(Protocol):
    """A technique that removes an amount of a site."""

    @property
    def amount(self) -> float:
        """Share to remove."""
        ...

    @property
    def pattern(self) -> Shape:
        """What stays or goes together."""
        ...

    def model_copy(self, *, update: dict[str, Any]) -> Self:
        """Itself with another amount."""
        ...

    def apply(self, profile: Profile, where: Sequence[str]) -> dict[str, Encoding]:
        """What is left of the sites."""
        ...


def amounts(technique: Prunes, profile: Profile, *, where: str) -> tuple[Option, ...]:
    """What growing amounts of one site cost, kept weights as float; an N:M pattern has one."""
    known, weight = profile.sites[where], profile.matrix(where)
    free = ":" not in technique.pattern
    found = []
    for amount in AMOUNTS if free else (technique.amount,):
        made = technique.model_copy(update={"amount": amount}).apply(profile, (where,))[where]
        lost = known.damage(weight, known.site.matrix(made.decode()))
        share = float(made.mask.float().mean()) if isinstance(made, Masked) else 1.0
        spread = -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)  # bits of the mask
        found.append(
            Option(
                {"amount": amount} if free else {},
                lost * (known.sensitivity or 0.0),
                known.site.size * (4 * share + spread / 8),
                4 * known.site.size,
            )
        )
    return tuple(found)
