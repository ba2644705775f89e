"""Weights of a site share a few values; only which one is stored for each."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import NOTHING, Codebook, Encoding, Made, Masked
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.groups import by_group
from lilliput.tensor.codebooks import centres, feedback_indices, nearest
from lilliput.tensor.second_order import inverse_factor

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
        shared = self._centres(profile, where, made) if self.together and where else None
        found: dict[str, Encoding] = {}
        for name in where:
            known, weight = profile.sites[name], profile.matrix(name)
            kept = _kept(known, made.get(name))
            book = self._centres(profile, (name,), made) if shared is None else shared
            sizes = self._sizes(weight)
            found[name] = Codebook(
                codes=self._indices(known, weight, sizes=sizes, book=book, kept=kept),
                values=book,
                row_steps=sizes,
                shape=known.site.shape,
                transposed=known.site.transposed,
            )
        return found

    def _sizes(self, weight: Tensor) -> Tensor:
        if not self.scaled:
            return torch.ones(len(weight))
        sizes = weight.square().mean(1).sqrt()
        half = sizes.to(torch.float16).to(torch.float32)
        return torch.where(half > 0, half, torch.ones(()))

    def _centres(self, profile: Profile, where: Sequence[str], made: Made) -> Tensor:
        """(values,) rising; zero is one of them where something was removed."""
        values, costs, removed = [], [], False
        for name in where:
            known, weight = profile.sites[name], profile.matrix(name)
            sizes, kept = self._sizes(weight), _kept(known, made.get(name))
            removed |= kept is not None
            cost = self._costs(profile, known, sizes)
            chosen = torch.ones(weight.shape, dtype=torch.bool) if kept is None else kept
            values.append((weight / sizes[:, None])[chosen])
            costs.append(cost.expand(weight.shape)[chosen])
        flat, weights = torch.cat(values), torch.cat(costs)
        stride = max(1, len(flat) // SAMPLE)
        count = self.values - removed
        found = centres(flat[::stride], weights[::stride], count=count) if len(flat) else None
        found = torch.zeros(count) if found is None else found
        return torch.cat([found, torch.zeros(1)]).sort().values if removed else found

    def _costs(self, profile: Profile, known: SiteProfile, sizes: Tensor) -> Tensor:
        """(rows, columns) what a squared error of a scaled weight costs."""
        if self.method == "plain":
            return torch.ones(1, 1)
        weight = profile.matrix(known.site.name)
        scale = (known.sensitivity or 1.0) * sizes.square() * known.weights
        inputs = by_group(known, weight, solve=lambda r, h, _: h.diagonal().expand(r.shape))
        return inputs * scale[:, None]

    def _indices(
        self,
        known: SiteProfile,
        weight: Tensor,
        *,
        sizes: Tensor,
        book: Tensor,
        kept: Tensor | None,
    ) -> Tensor:
        zero = int(nearest(torch.zeros(1), book))
        if self.method != "compensated":
            found = nearest(weight / sizes[:, None], book)
            return found if kept is None else torch.where(kept, found, zero).to(torch.uint8)
        fixed = None if kept is None else torch.where(kept, -1, zero)

        def solve(some: Tensor, second: Tensor, rows: slice) -> Tensor:
            return feedback_indices(
                some,
                inverse_factor(second),
                centres_=book,
                sizes=sizes[rows],
                fixed=None if fixed is None else fixed[rows],
            )

        return by_group(known, weight, solve=solve)


def _kept(known: SiteProfile, before: Encoding | None) -> Tensor | None:
    return known.site.matrix(before.mask) if isinstance(before, Masked) else None
