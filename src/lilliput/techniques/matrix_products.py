"""What the two singular value decompositions share: ranks, options, and ranks by damage."""

from collections.abc import Callable, Sequence

from lilliput.errors import PlanError
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
from lilliput.tensor.low_rank import Products, ranks_by_damage

HINT = "linear maps, tables and convolutions without groups can be factorized"
Solve = Callable[[str], Products]


def matrix_rank(technique: Factorizes, site: Site) -> int:
    """The rank asked for, or the largest that removes the amount; at least 1.

    Raises:
        PlanError: The site cannot become a product, or the rank is above its own.
    """
    refuse("a factorization", site, reason=obstacle(site), hint=HINT)
    asked = checked_rank(technique, site, most=min(site.rows, site.columns))
    left = int((1 - technique.amount) * site.size / (site.rows + site.columns))
    return asked or max(1, left)


def matrix_products(
    technique: Factorizes, profile: Profile, *, where: Sequence[str], made: Made, solve: Solve
) -> dict[str, Encoding]:
    """Each named site as a product of two factors."""
    ranks = {name: matrix_rank(technique, profile.sites[name].site) for name in where}
    return _at(profile, ranks, made=made, solve=solve)


def together(
    technique: Factorizes, profile: Profile, *, where: Sequence[str], made: Made, solve: Solve
) -> dict[str, Encoding]:
    """All sites together lose the amount, each what costs the output least; some stay whole.

    Raises:
        PlanError: A rank was asked for as well.
    """
    if technique.rank:
        raise PlanError(
            f"rank = {technique.rank} does not go with together = true",
            "either an amount of all, or each site by itself",
        )
    known = {name: profile.sites[name] for name in where}
    for each in known.values():
        refuse("a factorization", each.site, reason=obstacle(each.site), hint=HINT)
    ranks = ranks_by_damage(
        [
            solve(name).tails * (1.0 if each.sensitivity is None else each.sensitivity)
            for name, each in known.items()
        ],
        sides=[(each.site.rows, each.site.columns) for each in known.values()],
        budget=(1 - technique.amount) * sum(each.site.size for each in known.values()),
    )
    chosen = {name: rank for name, rank in zip(where, ranks, strict=True) if rank is not None}
    return _at(profile, chosen, made=made, solve=solve)


def _at(
    profile: Profile, ranks: dict[str, int], *, made: Made, solve: Solve
) -> dict[str, Encoding]:
    found: dict[str, Encoding] = {}
    for name, rank in ranks.items():
        site = profile.sites[name].site
        first, last = solve(name).at(rank)
        if site.kind == "conv":
            first = first.reshape(rank, *site.shape[1:])
            last = last.reshape(site.rows, rank, *[1] * (len(site.shape) - 2))
        found |= product(profile, name, factors=(first, last), made=made)
    return found


def matrix_options(profile: Profile, *, where: str, solve: Solve) -> tuple[Option, ...]:
    """Growing amounts of one site; none where it cannot become a product."""
    known = profile.sites[where]
    site, weight = known.site, profile.matrix(where)
    if obstacle(site):
        return ()
    products = solve(where)

    def damage(amount: float) -> tuple[float, int]:
        rank = max(1, int((1 - amount) * site.size / (site.rows + site.columns)))
        first, last = products.at(rank)
        return known.damage(weight, last @ first), rank * (site.rows + site.columns)

    return amounts(profile, where, damage=damage)
