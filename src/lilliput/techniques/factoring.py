"""What factorizing techniques share: fields, ranks, refusals, options, and what pruning left."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pydantic import Field
from torch import Tensor

from lilliput.errors import PlanError
from lilliput.model.encodings import Dense, Encoding, LowRank, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.model.sites import Site
from lilliput.techniques.base import Option
from lilliput.techniques.on_factors import on_factors
from lilliput.techniques.prune_sparsegpt import PruneSparsegpt

AMOUNT = Field(0.5, ge=0, lt=1, json_schema_extra={"unit": "share removed"})
RANK = Field(0, ge=0, le=65536, json_schema_extra={"unit": "rank; 0 follows from the amount"})
AMOUNTS = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FLOAT_BYTES = 4


class Factorizes(Protocol):
    """A technique that removes an amount of a site, or leaves it a rank."""

    @property
    def amount(self) -> float:
        """Share to remove."""
        ...

    @property
    def rank(self) -> int:
        """Rank to leave; 0 follows from the amount."""
        ...


def obstacle(site: Site) -> str | None:
    """Why no product can take the place of a site; None where one can."""
    if site.kind == "recurrent":
        return "is read by a recurrent layer, which takes no product"
    if site.kind == "conv" and site.transposed:
        return "is a transposed convolution"
    if site.groups > 1:
        return f"has {site.groups} groups, each with inputs of its own"
    return None


def refuse(technique: str, site: Site, *, reason: str | None, hint: str) -> None:
    """An error that names the site, where there is a reason.

    Raises:
        PlanError: There is.
    """
    if reason is not None:
        shape = " x ".join(map(str, site.shape))
        raise PlanError(f"{technique} cannot take {site.name}, {shape}: it {reason}", hint)


def checked_rank(technique: Factorizes, site: Site, *, most: int) -> int | None:
    """The rank that was asked for; None where it follows from the amount.

    Raises:
        PlanError: It is above the largest; names the range and the nearest.
    """
    if technique.rank > most:
        shape = " x ".join(map(str, site.shape))
        raise PlanError(
            f"rank = {technique.rank} is above that of {site.name}, {shape}",
            f"allowed is 1 to {most}, the nearest is {most}",
        )
    return technique.rank or None


def product(
    profile: Profile, name: str, *, factors: Sequence[Tensor], made: Made
) -> dict[str, Encoding]:
    """A site as a product; where an earlier step pruned it, the same share of the factors is."""
    site = profile.sites[name].site
    dense = LowRank(tuple(Dense(factor) for factor in factors), site.shape, site.transposed)
    before = made.get(name)
    if not isinstance(before, Masked):
        return {name: dense}
    gone = 1 - float(before.mask.float().mean())
    return on_factors(PruneSparsegpt(amount=gone, refit=True), profile, made={name: dense})


def amounts(
    profile: Profile,
    name: str,
    *,
    damage: Callable[[float], tuple[float, int]],
    tried: Sequence[float] = AMOUNTS,
) -> tuple[Option, ...]:
    """What growing amounts of one site cost, factors as float.

    Args:
        profile: Weights and statistics.
        name: The site.
        damage: Amount -> damage of the layer, and numbers that the factors hold.
        tried: The amounts, rising.
    """
    known, found = profile.sites[name], []
    worst = 0.0
    for amount in tried:
        lost, numbers = damage(amount)
        worst = max(worst, lost * (known.sensitivity or 0.0))
        size, work = FLOAT_BYTES * numbers, numbers / max(1, known.site.size)
        found.append(Option({"amount": amount}, worst, float(size), size, work))
    return tuple(found)
