"""Removes the smallest weights."""

from collections.abc import Sequence
from typing import ClassVar

import torch

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.masking import AMOUNT, Shape, alone, amounts, left, pattern_for
from lilliput.tensor.masks import keep
from lilliput.tensor.pruning import magnitude


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

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; a N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site without its smallest weights."""
        alone(self, self.together)
        least = self._threshold(profile, where) if self.together else None
        found: dict[str, Encoding] = {}
        for name in where:
            known, weight = profile.sites[name], profile.matrix(name)
            scores = magnitude(weight)
            if least is None:
                mask = keep(scores, self.amount, pattern=pattern_for(known, self.pattern))
            else:
                mask = scores > least
            found[name] = left(known, weight, mask=mask, best=self.refit)
        return found

    def _threshold(self, profile: Profile, where: Sequence[str]) -> float:
        """The magnitude up to which weights go, over all named sites."""
        scores = torch.cat([magnitude(profile.matrix(name)).flatten() for name in where])
        count = round(self.amount * len(scores))
        return float(scores.kthvalue(count).values) if count else -1.0
