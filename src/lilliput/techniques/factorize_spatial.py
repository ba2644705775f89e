"""A convolution as one down the image and one across it."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.model.sites import Site
from lilliput.techniques.base import Option
from lilliput.techniques.chain_products import Chain, cheapest_rank
from lilliput.techniques.factoring import AMOUNT, RANK
from lilliput.techniques.fields import Family, Fields
from lilliput.tensor.decompositions import Decompose, spatial


class FactorizeSpatial(Fields):
    """k x 1, then 1 x k, with fewer channels in between.

    Attributes:
        amount: Share of the weights to remove, in [0, 1).
        rank: Channels in between instead, at most the rank of the (out k, in k) matrix; 0 follows
            from the amount.
    """

    name: ClassVar[str] = "factorize_spatial"
    family: ClassVar[Family] = "factorize"
    source: ClassVar[str] = "Jaderberg et al. 2014, arXiv 1405.3866"
    summary: ClassVar[str] = "convolution as one down and one across the image"
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    amount: float = AMOUNT
    rank: int = RANK

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; none for what is no convolution along two axes."""
        return _CHAIN.options(profile, where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named convolution as a chain of two."""
        return _CHAIN.apply(self, profile, where=where, made=made)


def _sides(site: Site) -> tuple[int, int]:
    """Numbers per rank of the second and of the first factor."""
    out, inside, high, wide = site.shape
    return out * wide, inside * high


def _most(site: Site) -> int:
    return min(_sides(site))


def _split(site: Site, amount: float, rank: int) -> Decompose:
    most = cheapest_rank(site, sum(_sides(site)), amount=amount)
    return partial(spatial, rank=rank or min(most, _most(site)))


_CHAIN = Chain("factorize_spatial", axes=2, most=_most, split=_split)
