"""Singular value decomposition under the one metric: the product that costs the output least."""

from collections.abc import Sequence
from typing import ClassVar

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.factoring import AMOUNT, RANK
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.matrix_products import matrix_options, matrix_products, together
from lilliput.tensor.low_rank import Products, best_products


class FactorizeWhitened(Fields):
    """Two factors with the least ``tr(G E H E^T)``, found in the square roots of G and H.

    Attributes:
        amount: Share of the weights to remove, in [0, 1).
        rank: Rank to leave instead, at most that of the weight; 0 follows from the amount.
        together: All named sites together lose the amount, each what costs the model's output
            least; a site whose factors would be no smaller than itself stays whole.
    """

    name: ClassVar[str] = "factorize_whitened"
    family: ClassVar[Family] = "factorize"
    source: ClassVar[str] = "Wang et al. 2024, SVD-LLM, arXiv 2403.07378, with an output side"
    summary: ClassVar[str] = "two factors that cost the output least"
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    amount: float = AMOUNT
    rank: int = RANK
    together: bool = False

    @property
    def joint(self) -> bool:
        """Where sites share an amount."""
        return self.together

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; none for a site that no product can replace."""
        return matrix_options(profile, where=where, solve=lambda name: self._solve(profile, name))

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as a product of two factors; together, some may be left out."""
        solve = together if self.together else matrix_products
        return solve(
            self, profile, where=where, made=made, solve=lambda name: self._solve(profile, name)
        )

    def _solve(self, profile: Profile, name: str) -> Products:
        key = (self.name, name)
        if key not in profile.products:
            known = profile.sites[name]
            profile.products[key] = best_products(
                profile.matrix(name),
                factor=None if known.second is None else profile.factor(name)[0],
                output=known.row_side,
            )
        return profile.products[key]
