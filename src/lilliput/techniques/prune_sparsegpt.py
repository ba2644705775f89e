"""SparseGPT: columns go one after another, later ones absorb the error."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.masking import AMOUNT, Shape, amounts, pruned
from lilliput.tensor.masks import Pattern
from lilliput.tensor.pruning import feedback_prune


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
        return pruned(self, profile, where=where, sides=profile.factor, solve=self._solve)

    def _solve(self, rows: Tensor, factor: Tensor, pattern: Pattern) -> Tensor:
        return feedback_prune(rows, factor, amount=self.amount, pattern=pattern)
