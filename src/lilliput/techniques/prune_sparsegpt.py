"""SparseGPT: columns go one after another, later ones absorb the error."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.groups import by_group
from lilliput.techniques.masking import AMOUNT, Shape, amounts, left, pattern_for
from lilliput.tensor.masks import Pattern
from lilliput.tensor.pruning import feedback_prune
from lilliput.tensor.second_order import inverse_factor


class PruneSparsegpt(Fields):
    """Removes what costs least where later columns can make up for it, and lets them.

    Attributes:
        amount: Share of the weights to remove, in [0, 1); N:M patterns have their own.
        pattern: Single weights, N of M neighbours in a row, or blocks.
        refit: The kept weights are fitted anew, by least squares on what the site reads.
    """

    name: ClassVar[str] = "prune_sparsegpt"
    family: ClassVar[Family] = "prune"
    source: ClassVar[str] = "Frantar and Alistarh 2023, arXiv 2301.00774"
    summary: ClassVar[str] = "error-feedback pruning"

    amount: float = AMOUNT
    pattern: Shape = "any"
    refit: bool = False

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; an N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site, its kept weights changed to absorb what was removed."""
        found: dict[str, Encoding] = {}
        for name in where:
            known, weight = profile.sites[name], profile.matrix(name)
            pattern = pattern_for(known, self.pattern)

            def solve(rows: Tensor, second: Tensor, _: slice, pattern: Pattern = pattern) -> Tensor:
                factor = inverse_factor(second)
                return feedback_prune(rows, factor, amount=self.amount, pattern=pattern)[0]

            value = by_group(known, weight, solve=solve)
            mask = value != 0
            found[name] = left(known, weight, mask=mask, value=value, best=self.refit)
        return found
