"""Weights of a site share a few values; only which one is stored for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import NOTHING, Codebook, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.groups import by_group
from lilliput.tensor.codebooks import centres, feedback_indices, nearest

COUNTS = (256, 128, 64, 32, 16, 8, 4, 2)
VALUE_BYTES = 4
SAMPLE = 2_000_000  # weights that place the values; evenly spread


class ShareValues(Fields):
    """Clusters the weights and stores each as the number of its cluster's value.

    Attributes:
        values: How many values a site has, 2 to 256.
        method: How they are found: ``plain`` k-means, ``weighted`` by what an error costs
            (diagonal second order), or ``compensated``: weighted, and later columns absorb errors.
        scaled: Rows are divided by their root mean square first, which is stored for each.
        together: All named sites share one set of values.
    """

    name: ClassVar[str] = "share_values"
    family: ClassVar[Family] = "share"
    source: ClassVar[str] = "Han et al. 2016, arXiv 1510.00149; Choi et al. 2017, arXiv 1612.01543"
    summary: ClassVar[str] = "few shared values per site, chosen by weighted k-means"
    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    values: int = Field(16, ge=2, le=256, json_schema_extra={"unit": "values"})
    method: Literal["plain", "weighted", "compensated"] = "compensated"
    scaled: bool = True
    together: bool = False

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Fewer and fewer values."""
        known, weight = profile.sites[where], profile.matrix(where)
        found: list[Option] = []
        for count in COUNTS:
            one = self.model_copy(update={"values": count})
            book = one.apply(profile, (where,))[where]
            damage = known.damage(weight, known.site.matrix(book.decode()))
            bits = estimate_bits(book.codes.numpy()) if isinstance(book, Codebook) else 0.0
            sides = VALUE_BYTES * (count + self.scaled * known.site.rows)
            worst = found[-1].damage if found else 0.0
            least = found[-1].storage if found else float("inf")
            found.append(
                Option(
                    {"values": count},
                    max(worst, damage * (known.sensitivity or 0.0)),
                    min(least, bits / 8 + sides),
                    known.site.size + sides,
                )
            )
        return tuple(found)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as indices into its values."""
        parts = [self._part(profile, name, made.get(name)) for name in where]
        shared = self._centres(parts) if self.together and parts else None
        found: dict[str, Encoding] = {}
        for name, part in zip(where, parts, strict=True):
            book, site = (
                self._centres([part]) if shared is None else shared,
                profile.sites[name].site,
            )
            found[name] = Codebook(
                codes=self._indices(part, book, factor=profile.factor(name)),
                values=book,
                row_steps=part.sizes,
                shape=site.shape,
                transposed=site.transposed,
            )
        return found

    def _part(self, profile: Profile, name: str, before: Encoding | None) -> "_Part":
        known, weight = profile.sites[name], profile.matrix(name)
        sizes = _half_sizes(weight) if self.scaled else torch.ones(len(weight))
        costs = torch.ones(1, 1)
        if self.method != "plain":
            inputs = by_group(
                weight,
                profile.column_side(name),
                solve=lambda r, h, _: h.diagonal().expand(r.shape),
            )
            rows = (known.sensitivity or 1.0) * sizes.square() * known.weights
            costs = inputs * rows[:, None]
        kept = known.site.matrix(before.mask) if isinstance(before, Masked) else None
        return _Part(weight / sizes[:, None], sizes, costs.expand(weight.shape), kept)

    def _centres(self, parts: "Sequence[_Part]") -> Tensor:
        """(values,) rising; zero is one of them where something was removed."""
        flat = torch.cat([part.chosen(part.scaled) for part in parts])
        costs = torch.cat([part.chosen(part.costs) for part in parts])
        removed = any(part.kept is not None for part in parts)
        stride, count = max(1, len(flat) // SAMPLE), self.values - removed
        found = torch.zeros(count)
        if len(flat):
            found = centres(flat[::stride], costs[::stride], count=count)
        return torch.cat([found, torch.zeros(1)]).sort().values if removed else found

    def _indices(self, part: "_Part", book: Tensor, *, factor: Tensor) -> Tensor:
        zero = int(nearest(torch.zeros(1), book))
        if self.method != "compensated":
            found = nearest(part.scaled, book)
            return found if part.kept is None else torch.where(part.kept, found, zero).byte()
        fixed = None if part.kept is None else torch.where(part.kept, -1, zero)
        return by_group(
            part.scaled,
            factor,
            solve=lambda rows, side, which: feedback_indices(
                rows, side, centres_=book, fixed=None if fixed is None else fixed[which]
            ),
        )


@dataclass(frozen=True)
class _Part:
    """A site on its way to shared values.

    Attributes:
        scaled: (rows, columns) weights over the sizes of their rows.
        sizes: (rows,).
        costs: (rows, columns) what a squared error of a scaled weight costs.
        kept: (rows, columns) bool, False where an earlier step removed; None where none did.
    """

    scaled: Tensor
    sizes: Tensor
    costs: Tensor
    kept: Tensor | None

    def chosen(self, matrix: Tensor) -> Tensor:
        """Its entries that are kept, flat."""
        return matrix.flatten() if self.kept is None else matrix[self.kept]


def _half_sizes(weight: Tensor) -> Tensor:
    """Root mean squares of rows in half precision; 1 where that is nothing."""
    half = weight.square().mean(1).sqrt().to(torch.float16).to(torch.float32)
    return torch.where(half > 0, half, torch.ones(()))
