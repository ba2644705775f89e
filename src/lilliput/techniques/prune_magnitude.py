"""Removes the smallest weights."""

from collections.abc import Sequence
from typing import ClassVar

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.masking import AMOUNT, Shape, amounts, ranked


class PruneMagnitude(Fields):
    """Removes the weights of smallest magnitude. Needs no data, except to refit.

    Attributes:
        amount: Share of the weights to remove, in [0, 1); N:M patterns have their own.
        pattern: Single weights, N of M neighbours in a row, or blocks.
        together: Ranks the weights of all named sites together instead of site by site; only
            for single weights.
        refit: The kept weights are fitted anew, by least squares on what the site reads.
    """

    name: ClassVar[str] = "prune_magnitude"
    family: ClassVar[Family] = "prune"
    source: ClassVar[str] = "Han et al. 2015, arXiv 1506.02626"
    summary: ClassVar[str] = "remove the smallest weights"

    amount: float = AMOUNT
    pattern: Shape = "any"
    together: bool = False
    refit: bool = False

    @property
    def joint(self) -> bool:
        """Where sites share an amount."""
        return self.together

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; a N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site without its smallest weights."""
        sizes = {name: profile.matrix(name).abs() for name in where}
        return ranked(self, profile, scores=sizes, together=self.together)
