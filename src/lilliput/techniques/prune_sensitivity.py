"""Shares one amount out over the sites by what each loses."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.groups import by_group
from lilliput.techniques.masking import AMOUNT, AMOUNTS, Shape, amounts
from lilliput.techniques.prune_sparsegpt import PruneSparsegpt
from lilliput.tensor.allocation import Curve, curve, equal_slope
from lilliput.tensor.reselection import TwoSided, reselected
from lilliput.tensor.second_order import damped


class PruneSensitivity(Fields):
    """Sites to which the model is less sensitive lose more; all lose the given amount together.

    What SparseGPT chose is improved under both sides of the metric: kept weights are fitted, and
    removed ones exchanged for kept ones.

    Attributes:
        amount: Share of the weights of all named sites to remove, in [0, 1).
        pattern: Single weights, N of M neighbours in a row, or blocks. N:M leaves nothing to share
            out: each site loses the same.
        refit: The kept weights are fitted anew, by least squares on what the site reads and on
            what its output is worth.
        swaps: Rounds in which removed weights are exchanged for kept ones that are worth less, as
            long as that pays; only for single weights that are fitted anew.
    """

    name: ClassVar[str] = "prune_sensitivity"
    family: ClassVar[Family] = "prune"
    source: ClassVar[str] = (
        "Han et al. 2015, arXiv 1506.02626; equal slopes: Shoham and Gersho 1988"
    )
    summary: ClassVar[str] = "more from sites whose loss the output feels less"

    amount: float = AMOUNT
    pattern: Shape = "any"
    refit: bool = True
    swaps: int = Field(8, ge=0, le=64, json_schema_extra={"unit": "rounds"})

    @property
    def joint(self) -> bool:
        """Sites share an amount."""
        return True

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; an N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Error-feedback pruning with an amount per site, so that damage is least in all."""
        alike = len(where) < 2 or ":" in self.pattern
        chosen = [self.amount] * len(where) if alike else self._amounts(profile, where)
        found: dict[str, Encoding] = {}
        for name, amount in zip(where, chosen, strict=True):
            one = PruneSparsegpt(amount=amount, pattern=self.pattern)
            first = one.apply(profile, (name,))[name]
            found[name] = self._fitted(profile, name, first) if self.refit else first
        return found

    def _fitted(self, profile: Profile, name: str, made: Encoding) -> Encoding:
        """The kept weights at their best, after exchanges that pay."""
        if not isinstance(made, Masked):
            return made
        known, weight = profile.sites[name], profile.matrix(name)
        site, sides = known.site, damped(profile.column_side(name))
        first, chosen = site.matrix(made.weight), site.matrix(made.mask)
        output = known.weights if known.output is None or len(sides) > 1 else known.output
        swaps = self.swaps if self.pattern == "any" else 0
        mask = torch.empty_like(chosen)

        def solve(rows: Tensor, side: Tensor, which: slice) -> Tensor:
            part = output if len(sides) == 1 else output[which]
            problem = TwoSided(rows, second=side, output=part)
            mask[which] = reselected(problem, first[which], mask=chosen[which], swaps=swaps)
            return problem.fitted(first[which], mask[which])

        value = torch.where(mask, by_group(weight, sides, solve=solve), 0.0)
        return Masked(site.parameter(value).contiguous(), site.parameter(mask).contiguous())

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
        found = PruneSparsegpt(pattern=self.pattern).options(profile, name)
        kept = [(1 - amount) * size for amount in AMOUNTS]
        return curve(
            np.array([1 / (1 - amount) for amount in AMOUNTS]),
            damage=np.array([option.damage for option in found]),
            sizes=np.array(kept),
        )
