"""Removes the weights that move the output least, each by itself."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.groups import by_group
from lilliput.techniques.masking import AMOUNT, Shape, amounts, left, pattern_for
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
        found: dict[str, Encoding] = {}
        for name in where:
            known, weight = profile.sites[name], profile.matrix(name)
            pattern = pattern_for(known, self.pattern)

            def solve(rows: Tensor, second: Tensor, _: slice, pattern: Pattern = pattern) -> Tensor:
                scores = activation_magnitude(rows, second)
                return keep(scores, self.amount, pattern=pattern, by_row=True)

            mask = by_group(known, weight, solve=solve)
            found[name] = left(known, weight, mask=mask, best=self.refit)
        return found
