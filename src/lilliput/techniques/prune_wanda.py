"""Removes the weights that move the output least, each by itself."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.masking import AMOUNT, Shape, amounts, pruned
from lilliput.tensor.masks import Pattern, keep
from lilliput.tensor.pruning import activation_magnitude


class PruneWanda(Fields):
    """Removes what is smallest in ``|w| sqrt(H_jj)``, the same number from every row.

    Attributes:
        amount: Share of each row to remove, in [0, 1); N:M patterns have their own.
        pattern: Single weights, N of M neighbours in a row, or blocks.
        refit: The kept weights are fitted anew, by least squares on what the site reads.
    """

    name: ClassVar[str] = "prune_wanda"
    family: ClassVar[Family] = "prune"
    source: ClassVar[str] = "Sun et al. 2023, arXiv 2306.11695"
    summary: ClassVar[str] = "remove the smallest products of weight and input, row by row"

    amount: float = AMOUNT
    pattern: Shape = "any"
    refit: bool = False

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; an N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site without the weights that count least in their row."""
        return pruned(self, profile, where=where, sides=profile.column_side, solve=self._solve)

    def _solve(self, rows: Tensor, second: Tensor, pattern: Pattern) -> Tensor:
        scores = activation_magnitude(rows, second)
        return rows * keep(scores, self.amount, pattern=pattern, by_row=True)
