"""Weights of a site share a few values; only which one is stored for each."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.earlier import mask_of
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.groups import by_group
from lilliput.techniques.sharing import Part, Shared
from lilliput.tensor.codebooks import centres

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

    @property
    def joint(self) -> bool:
        """Where sites share their values."""
        return self.together

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Fewer and fewer values."""
        known, weight = profile.sites[where], profile.matrix(where)
        part = self._part(profile, where)
        found: list[Option] = []
        for count in COUNTS:
            shared = self.model_copy(update={"values": count})._shared([part])
            book = shared.codebook(known.site, part=part, place=0)
            damage = known.damage(weight, known.site.matrix(book.decode()))
            sides = VALUE_BYTES * (count + self.scaled * known.site.rows)
            worst = found[-1].damage if found else 0.0
            least = found[-1].storage if found else float("inf")
            found.append(
                Option(
                    {"values": count},
                    max(worst, damage * (known.sensitivity or 0.0)),
                    min(least, estimate_bits(book.codes.numpy()) / 8 + sides),
                    known.site.size + sides,
                )
            )
        return tuple(found)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as indices into its values."""
        names = list(where)
        sets = [names] if self.together else [[name] for name in names]
        found: dict[str, Encoding] = {}
        for members in sets:
            parts = [self._part(profile, name, made) for name in members]
            shared = self._shared(parts)
            for place, (name, part) in enumerate(zip(members, parts, strict=True)):
                found[name] = shared.codebook(profile.sites[name].site, part=part, place=place)
        return found

    def _part(self, profile: Profile, name: str, made: Made = NOTHING) -> Part:
        known, weight = profile.sites[name], profile.matrix(name)
        sizes = _half_sizes(weight) if self.scaled else torch.ones(len(weight))
        among = (known.sensitivity or 1.0) if self.together else 1.0
        worth = among * sizes.square() * known.weights
        costs = torch.ones(1, 1)
        if self.method != "plain":
            inputs = by_group(
                weight,
                profile.column_side(name),
                solve=lambda r, h, _: h.diagonal().expand(r.shape),
            )
            costs = inputs * worth[:, None]
        return Part(
            scaled=weight / sizes[:, None],
            sizes=sizes,
            costs=costs.expand(weight.shape),
            kept=mask_of(known, made),
            second=profile.column_side(name),
            rows=profile.row_factor(name),
        )

    def _shared(self, parts: Sequence[Part]) -> Shared:
        """Values of some sites, and which weight has which."""
        book = self._centres(parts)
        if self.method != "compensated":
            return Shared(book, [part.nearest(book) for part in parts])
        ordered = [part.ordered() for part in parts]
        return Shared(book, [part.back(part.fed(book)) for part in ordered])

    def _centres(self, parts: Sequence[Part]) -> Tensor:
        """(values,) rising; zero is one of them where something was removed."""
        flat = torch.cat([part.chosen(part.scaled) for part in parts])
        costs = torch.cat([part.chosen(part.costs) for part in parts])
        removed = any(part.kept is not None for part in parts)
        stride, count = max(1, len(flat) // SAMPLE), self.values - removed
        found = torch.zeros(count)
        if len(flat):
            found = centres(flat[::stride], costs[::stride], count=count)
        return torch.cat([found, torch.zeros(1)]).sort().values if removed else found


def _half_sizes(weight: Tensor) -> Tensor:
    """Root mean squares of rows in half precision, which ends at 65504; 1 where that is nothing."""
    largest = torch.finfo(torch.float16).max
    sizes = weight.square().mean(1).sqrt().clamp_max(largest)
    half = sizes.to(torch.float16).to(torch.float32)
    return torch.where(half > 0, half, torch.ones(()))
