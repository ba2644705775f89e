"""Plain singular value decomposition: the product nearest to the weight itself."""

from collections.abc import Sequence
from typing import ClassVar

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.records import LimitName
from lilliput.techniques.base import Option
from lilliput.techniques.factoring import AMOUNT, RANK
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.matrix_products import matrix_options, matrix_products
from lilliput.tensor.low_rank import Products, best_products


class FactorizeSvd(Fields):
    """Two factors whose product is nearest to the weight; what the site reads does not count.

    Attributes:
        amount: Share of the weights to remove, in [0, 1).
        rank: Rank to leave instead, at most that of the weight; 0 follows from the amount.
    """

    name: ClassVar[str] = "factorize_svd"
    family: ClassVar[Family] = "factorize"
    source: ClassVar[str] = "Eckart and Young 1936; Denton et al. 2014, arXiv 1404.0736"
    summary: ClassVar[str] = "two factors nearest to the weight"
    serves: ClassVar[frozenset[LimitName] | None] = frozenset()  # the whitened one damages less
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    amount: float = AMOUNT
    rank: int = RANK

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; none for a site that no product can replace."""
        return matrix_options(profile, where=where, solve=lambda name: self._solve(profile, name))

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as a product of two factors."""
        return matrix_products(
            self, profile, where=where, made=made, solve=lambda name: self._solve(profile, name)
        )

    def _solve(self, profile: Profile, name: str) -> Products:
        key = (self.name, name)
        if key not in profile.products:
            profile.products[key] = best_products(profile.matrix(name))
        return profile.products[key]
