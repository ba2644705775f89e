"""Optimal Brain Damage: removes the weights whose removal costs least to second order."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.groups import by_group
from lilliput.techniques.masking import AMOUNT, Shape, amounts, ranked
from lilliput.tensor.pruning import diagonal_saliency


class PruneDamage(Fields):
    """Removes what is smallest in ``G_ii H_jj w^2``, the diagonal of the loss's second order.

    Attributes:
        amount: Share of the weights to remove, in [0, 1); N:M patterns have their own.
        pattern: Single weights, N of M neighbours in a row, or blocks.
        together: Ranks the weights of all named sites together, by what the model's output loses;
            only for single weights.
        refit: The kept weights are fitted anew, by least squares on what the site reads.
    """

    name: ClassVar[str] = "prune_damage"
    family: ClassVar[Family] = "prune"
    source: ClassVar[str] = "LeCun, Denker and Solla 1990, Optimal Brain Damage"
    summary: ClassVar[str] = "remove by the diagonal second order of the loss"

    amount: float = AMOUNT
    pattern: Shape = "any"
    together: bool = False
    refit: bool = False

    @property
    def joint(self) -> bool:
        """Where sites share an amount."""
        return self.together

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; an N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site without the weights whose loss costs least."""
        scores = {name: self._scores(profile, name) for name in where}
        return ranked(self, profile, scores=scores, together=self.together)

    def _scores(self, profile: Profile, name: str) -> Tensor:
        """In the currency, so that sites can be compared."""
        known = profile.sites[name]
        sensitivity = 1.0 if known.sensitivity is None else known.sensitivity
        return sensitivity * by_group(
            profile.matrix(name),
            profile.column_side(name),
            solve=lambda rows, second, which: diagonal_saliency(
                rows, second, worth=known.weights[which]
            ),
        )
