"""Shares one amount out over the sites by what each loses."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.masking import AMOUNT, AMOUNTS, Shape, amounts
from lilliput.techniques.prune_sparsegpt import PruneSparsegpt
from lilliput.tensor.allocation import Curve, curve, equal_slope


class PruneSensitivity(Fields):
    """Sites to which the model is less sensitive lose more; all lose the given amount together.

    Attributes:
        amount: Share of the weights of all named sites to remove, in [0, 1).
        refit: The kept weights are fitted anew, by least squares on what the site reads.
    """

    name: ClassVar[str] = "prune_sensitivity"
    family: ClassVar[Family] = "prune"
    source: ClassVar[str] = (
        "Han et al. 2015, arXiv 1506.02626; equal slopes: Shoham and Gersho 1988"
    )
    summary: ClassVar[str] = "more from sites whose loss the output feels less"

    joint: ClassVar[bool] = True
    pattern: ClassVar[Shape] = "any"

    amount: float = AMOUNT
    refit: bool = True

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; an N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Error-feedback pruning with an amount per site, so that damage is least in all."""
        chosen = self._amounts(profile, where) if len(where) > 1 else [self.amount] * len(where)
        found: dict[str, Encoding] = {}
        for name, amount in zip(where, chosen, strict=True):
            one = PruneSparsegpt(amount=amount, refit=self.refit)
            found |= one.apply(profile, (name,))
        return found

    def _amounts(self, profile: Profile, where: Sequence[str]) -> list[float]:
        curves = [self._curve(profile, name) for name in where]
        sizes = [profile.sites[name].site.size for name in where]
        picks = equal_slope(curves, (1 - self.amount) * sum(sizes))
        return [
            float(1 - each.bytes[pick] / size)
            for each, pick, size in zip(curves, picks, sizes, strict=True)
        ]

    def _curve(self, profile: Profile, name: str) -> Curve:
        """Damage of a site against the number of weights kept."""
        size = profile.sites[name].site.size
        found = PruneSparsegpt().options(profile, name)
        kept = [(1 - amount) * size for amount in AMOUNTS]
        return curve(
            np.array([1 / (1 - amount) for amount in AMOUNTS]),
            damage=np.array([option.damage for option in found]),
            sizes=np.array(kept),
        )
