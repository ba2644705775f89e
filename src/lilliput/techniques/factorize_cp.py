"""Canonical polyadic decomposition: mixing, one filter per channel and axis, mixing."""

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
from lilliput.tensor.decompositions import Decompose, canonical


class FactorizeCp(Fields):
    """1x1, depthwise down, depthwise across, 1x1.

    Attributes:
        amount: Share of the weights to remove, in [0, 1).
        rank: Channels in between instead, at most as many as hold as many numbers as the weight;
            0 follows from the amount.
    """

    name: ClassVar[str] = "factorize_cp"
    family: ClassVar[Family] = "factorize"
    source: ClassVar[str] = "Lebedev et al. 2015, arXiv 1412.6553"
    summary: ClassVar[str] = "convolution as 1x1, one filter per channel and axis, 1x1"
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    amount: float = AMOUNT
    rank: int = RANK

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; none for what is no convolution with a kernel."""
        return _CHAIN.options(profile, where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named convolution as a chain of three or more."""
        return _CHAIN.apply(self, profile, where=where, made=made)


def _each(site: Site) -> int:
    """Numbers per rank."""
    out, inside, *kernel = site.shape
    return out + inside + sum(size for size in kernel if size > 1)


def _most(site: Site) -> int:
    return cheapest_rank(site, _each(site), amount=0.0)


def _split(site: Site, amount: float, rank: int) -> Decompose:
    return partial(canonical, rank=rank or cheapest_rank(site, _each(site), amount=amount))


_CHAIN = Chain("factorize_cp", axes=1, most=_most, split=_split)
