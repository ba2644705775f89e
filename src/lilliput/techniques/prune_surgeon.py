"""Optimal Brain Surgeon: the cheapest weight goes, all others of its row make up for it."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.masking import AMOUNT, amounts, pruned
from lilliput.tensor.masks import Pattern
from lilliput.tensor.pruning import surgeon_prune
from lilliput.tensor.second_order import damped


class PruneSurgeon(Fields):
    """Removes weights row by row in the order of ``w^2 / [inv H]_jj``, updating the rest each time.

    Attributes:
        amount: Share of each row to remove, in [0, 1).
        pattern: Single weights, or N of M neighbours in a row.
        at_once: Weights of a row that go together; 1 is the exact order, more is that much
            quicker.
        refit: The kept weights are fitted anew, by least squares on what the site reads.
    """

    name: ClassVar[str] = "prune_surgeon"
    family: ClassVar[Family] = "prune"
    source: ClassVar[str] = "Hassibi and Stork 1993; Frantar et al. 2022, arXiv 2208.11580"
    summary: ClassVar[str] = "remove one by one, update the rest of the row"

    amount: float = AMOUNT
    pattern: Literal["any", "2:4", "4:8"] = "any"
    at_once: int = Field(16, ge=1, le=4096, json_schema_extra={"unit": "weights of a row"})
    refit: bool = False

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Growing amounts; an N:M pattern has one."""
        return amounts(self, profile, where=where)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site, its kept weights changed to absorb what was removed."""
        return pruned(self, profile, where=where, sides=profile.column_side, solve=self._solve)

    def _solve(self, rows: Tensor, second: Tensor, pattern: Pattern) -> Tensor:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(second)))
        how = {"amount": self.amount, "at_once": self.at_once}
        return surgeon_prune(rows, inverse, pattern=pattern, **how)  # type: ignore[arg-type]
