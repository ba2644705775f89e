"""What pruning techniques share: fields, how sites are solved or ranked, and what is left."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, Self

import torch
from pydantic import Field
from torch import Tensor

from lilliput.errors import PlanError
from lilliput.model.encodings import Encoding, Masked
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.techniques.base import Option
from lilliput.techniques.groups import by_group
from lilliput.tensor.masks import PATTERNS, Pattern, fits, keep, refit
from lilliput.tensor.second_order import damped

Shape = Literal["any", "2:4", "4:8", "1x4", "4x1"]
AMOUNT = Field(0.5, ge=0, lt=1, json_schema_extra={"unit": "share removed"})
AMOUNTS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
Sides = Callable[[str], Tensor]
PerPattern = Callable[[Tensor, Tensor, Pattern], Tensor]


def pattern_for(known: SiteProfile, technique: "Prunes") -> Pattern:
    """The pattern, if the site's matrix divides into its groups or blocks.

    Raises:
        PlanError: It does not, and the message names the site and its sizes; or the amount is not
            that of the pattern.
    """
    shape = technique.pattern
    pattern, site = PATTERNS[shape], known.site
    if pattern.kept and technique.amount != 1 - pattern.kept / pattern.group:
        raise PlanError(
            f"amount = {technique.amount:g} does not go with pattern {shape}",
            f"allowed is {1 - pattern.kept / pattern.group:g}, which the pattern removes",
        )
    if not fits((site.rows // site.groups, site.columns), pattern):
        raise PlanError(
            f"pattern {shape} does not divide {site.name}, {site.rows} x {site.columns}",
            'pattern "any" fits every site',
        )
    return pattern


def pruned(
    technique: "Prunes", profile: Profile, *, where: Sequence[str], sides: Sides, solve: PerPattern
) -> dict[str, Encoding]:
    """Each named site solved group by group.

    Args:
        technique: Its pattern, and whether it refits.
        profile: Weights and statistics.
        where: The sites.
        sides: What `solve` is given of a site, (groups, columns, columns).
        solve: Some rows, their group's side and the pattern -> the rows, zero where removed.
    """
    found: dict[str, Encoding] = {}
    for name in where:
        pattern = pattern_for(profile.sites[name], technique)

        def one(rows: Tensor, side: Tensor, _: slice, pattern: Pattern = pattern) -> Tensor:
            return solve(rows, side, pattern)

        value = by_group(profile.matrix(name), sides(name), solve=one)
        found[name] = _left(profile, name, mask=value != 0, value=value, refitted=technique.refit)
    return found


def ranked(
    technique: "Prunes", profile: Profile, *, scores: Mapping[str, Tensor], together: bool
) -> dict[str, Encoding]:
    """Each site without its lowest scores, or all of them without the lowest of all.

    Raises:
        PlanError: A pattern was asked for as well as ranking sites together.
    """
    if together and technique.pattern != "any":
        raise PlanError(
            f"pattern {technique.pattern} does not go with together = true",
            'either pattern "any", or each site by itself',
        )
    if together and scores:
        flat = torch.cat([each.flatten() for each in scores.values()])
        kept = keep(flat[None], technique.amount, pattern=PATTERNS["any"])[0]
        parts = torch.split(kept, [each.numel() for each in scores.values()])
        masks = {n: part.reshape(scores[n].shape) for n, part in zip(scores, parts, strict=True)}
    else:
        masks = {
            name: keep(
                each,
                technique.amount,
                pattern=pattern_for(profile.sites[name], technique),
            )
            for name, each in scores.items()
        }
    return {
        name: _left(profile, name, mask=mask, value=profile.matrix(name), refitted=technique.refit)
        for name, mask in masks.items()
    }


def _left(profile: Profile, name: str, *, mask: Tensor, value: Tensor, refitted: bool) -> Masked:
    """The masked entries zero, the others as given, or fitted so that least is lost."""
    site, weight = profile.sites[name].site, profile.matrix(name)
    if refitted:
        value = by_group(
            weight,
            damped(profile.column_side(name)),
            solve=lambda rows, second, which: refit(rows, mask[which], second=second),
        )
    kept = torch.where(mask, value, 0.0)
    return Masked(site.parameter(kept).contiguous(), site.parameter(mask).contiguous())


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

    @property
    def refit(self) -> bool:
        """Whether the kept weights are fitted anew."""
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
