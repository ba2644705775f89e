"""Tucker-2: a convolution between fewer channels, with mixing before and after it."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.model.sites import Site
from lilliput.techniques.base import Option
from lilliput.techniques.chain_products import Chain
from lilliput.techniques.factoring import AMOUNT, RANK
from lilliput.techniques.fields import Family, Fields
from lilliput.tensor.decompositions import Decompose, tucker2


class FactorizeTucker(Fields):
    """1x1, then the kernel on fewer channels, then 1x1; the ranks of both sides by damage.

    Attributes:
        amount: Share of the weights to remove, in [0, 1).
        rank: Channels on both sides of the core instead, at most the larger number of channels; 0
            follows from the amount.
    """

    name: ClassVar[str] = "factorize_tucker"
    family: ClassVar[Family] = "factorize"
    source: ClassVar[str] = "Kim et al. 2016, arXiv 1511.06530"
    summary: ClassVar[str] = "convolution as 1x1, a smaller one, 1x1"
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    amount: float = AMOUNT
    rank: int = RANK

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; none for what is no convolution with a kernel."""
        return _CHAIN.options(profile, where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named convolution as a chain of three."""
        return _CHAIN.apply(self, profile, where=where, made=made)


def _most(site: Site) -> int:
    return max(site.shape[:2])


def _split(site: Site, amount: float, rank: int) -> Decompose:
    return partial(tucker2, numbers=(1 - amount) * site.size, rank=rank)


_CHAIN = Chain("factorize_tucker", axes=1, most=_most, split=_split)
