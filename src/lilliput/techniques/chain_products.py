"""What the decompositions of convolutions share: refusals, options, and the way to the factors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from lilliput.model.encodings import Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.model.sites import Site
from lilliput.techniques.base import Option
from lilliput.techniques.factoring import (
    Factorizes,
    amounts,
    checked_rank,
    obstacle,
    product,
    refuse,
)
from lilliput.tensor.decompositions import Decompose, decomposed
from lilliput.tensor.products import Metric, chained

AMOUNTS = (0.25, 0.5, 0.7, 0.85)  # each takes seconds on a large convolution
NEAREST = "factorize_whitened takes linear maps, tables and convolutions without groups"


@dataclass(frozen=True)
class Chain:
    """How a technique splits a convolution.

    Attributes:
        name: Of the technique.
        axes: Axes of the kernel that must be longer than one, at least so many.
        most: The largest rank of a site.
        split: Site, share to remove and rank (0: from the share) -> what splits its weight.
    """

    name: str
    axes: int
    most: Callable[[Site], int]
    split: Callable[[Site, float, int], Decompose]

    def obstacle(self, site: Site) -> str | None:
        """Why it cannot split a site; None where it can."""
        if site.kind != "conv":
            return f"is a weight of kind {site.kind}, no convolution"
        long = sum(size > 1 for size in site.shape[2:])
        if long < self.axes:
            return f"has a kernel longer than one on {long} axes, {self.axes} are needed"
        return obstacle(site)

    def apply(
        self, technique: Factorizes, profile: Profile, *, where: Sequence[str], made: Made
    ) -> dict[str, Encoding]:
        """Each named site as a chain.

        Raises:
            PlanError: One cannot be split, or the rank is above the largest.
        """
        ranks = {}
        for name in where:
            site = profile.sites[name].site
            refuse(self.name, site, reason=self.obstacle(site), hint=NEAREST)
            ranks[name] = checked_rank(technique, site, most=self.most(site)) or 0
        found: dict[str, Encoding] = {}
        for name, rank in ranks.items():
            factors = self._factors(profile, name, technique.amount, rank)
            found |= product(profile, name, factors=factors, made=made)
        return found

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts of one site; none where it cannot be split."""
        known, weight = profile.sites[where], profile.matrix(where)
        if self.obstacle(known.site):
            return ()

        def damage(amount: float) -> tuple[float, int]:
            factors = self._factors(profile, where, amount, 0)
            value = chained(factors).reshape(weight.shape)
            return known.damage(weight, value), sum(factor.numel() for factor in factors)

        return amounts(profile, where, damage=damage, tried=AMOUNTS)

    def _factors(self, profile: Profile, name: str, amount: float, rank: int) -> list[Tensor]:
        known = profile.sites[name]
        return decomposed(
            profile.matrix(name).reshape(known.site.shape),
            Metric(profile.column_side(name)[0], known.row_side),
            decompose=self.split(known.site, amount, rank),
        )


def cheapest_rank(site: Site, each: int, *, amount: float) -> int:
    """The largest rank whose factors, `each` numbers per rank, remove the amount; at least 1."""
    return max(1, int((1 - amount) * math.prod(site.shape) / each))
