"""Optimal Brain Damage: removes the weights whose removal costs least to second order."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.groups import by_group
from lilliput.techniques.masking import AMOUNT, Shape, alone, amounts, left, pattern_for
from lilliput.tensor.masks import keep
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

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; an N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site without the weights whose loss costs least."""
        alone(self, self.together)
        all_scores = {name: self._scores(profile, name) for name in where}
        least = self._threshold(all_scores) if self.together else None
        found: dict[str, Encoding] = {}
        for name, scores in all_scores.items():
            known = profile.sites[name]
            if least is None:
                mask = keep(scores, self.amount, pattern=pattern_for(known, self.pattern))
            else:
                mask = scores > least
            found[name] = left(known, profile.matrix(name), mask=mask, best=self.refit)
        return found

    def _scores(self, profile: Profile, name: str) -> Tensor:
        """In the currency, so that sites can be compared."""
        known = profile.sites[name]
        sensitivity = 1.0 if known.sensitivity is None else known.sensitivity
        return sensitivity * by_group(
            known,
            profile.matrix(name),
            solve=lambda rows, second, which: diagonal_saliency(
                rows, second, worth=known.weights[which]
            ),
        )

    def _threshold(self, scores: dict[str, Tensor]) -> float:
        """The saliency up to which weights go, over all sites."""
        flat = torch.cat([each.flatten() for each in scores.values()])
        count = round(self.amount * len(flat))
        return float(flat.kthvalue(count).values) if count else -1.0
