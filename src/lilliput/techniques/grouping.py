"""What quantization in groups of columns shares: sizes, grids, options, and the encoding."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

import torch
from pydantic import Field
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import Encoding, Grouped
from lilliput.model.profiles import Profile
from lilliput.model.sites import Site
from lilliput.techniques.base import Option
from lilliput.techniques.sampling import sampled
from lilliput.tensor.packing import packed_width
from lilliput.tensor.ranges import Ranges, clipped_ranges, full_ranges

Columns = Annotated[Literal[16, 32, 64, 128, 256], Field(json_schema_extra={"unit": "columns"})]
BITS = Field(4, ge=2, le=8, json_schema_extra={"unit": "bits"})
WIDTHS = (8, 4, 3, 2)
STEP_BYTES = 2  # in the packed file; 4 in the runnable one
Part = tuple[Ranges, Tensor]  # grids of rows, and their codes, (rows, columns)


class Groups(Protocol):
    """A technique with a width of codes and a size of groups."""

    name: ClassVar[str]

    @property
    def bits(self) -> int:
        """Width of a code."""
        ...

    @property
    def group(self) -> int:
        """Columns of a group."""
        ...

    @property
    def symmetric(self) -> bool:
        """Whether the middle code means zero everywhere."""
        ...

    @property
    def packed(self) -> bool:
        """Whether the runnable file computes on packed codes."""
        ...

    def model_copy(self, *, update: dict[str, Any]) -> Self:
        """Itself at another width."""
        ...

    def apply(self, profile: Profile, where: Sequence[str]) -> Mapping[str, Encoding]:
        """The sites as codes."""
        ...


def ranges_of(technique: Groups, weight: Tensor, *, clip: bool, costs: Tensor | None) -> Ranges:
    """Grids that reach the extremes, or are drawn in as far as lowers the cost of rounding."""
    shape = {"group": technique.group, "symmetric": technique.symmetric}
    if not clip:
        return full_ranges(weight, technique.bits, **shape)  # type: ignore[arg-type]
    return clipped_ranges(weight, technique.bits, costs=costs, **shape)  # type: ignore[arg-type]


def as_grouped(
    technique: Groups,
    site: Site,
    *,
    part: Part,
    wanted: Tensor,
    column_steps: Tensor | None = None,
) -> Grouped:
    """Grids and codes as the encoding that is shipped.

    Args:
        technique: Whether zeros are stored, and how the runnable file computes.
        site: The site.
        part: Of all its rows.
        wanted: (rows, columns) what was rounded; what lies beyond its grid is counted.
        column_steps: (columns,) factors on the codes, or None.
    """
    ranges, codes = part
    return Grouped(
        codes=codes.to(torch.uint8).contiguous(),
        steps=ranges.steps.to(torch.float32).contiguous(),
        zeros=None if technique.symmetric else ranges.zeros.to(torch.uint8).contiguous(),
        bits=technique.bits,
        group=ranges.group,
        column_steps=column_steps,
        shape=site.shape,
        transposed=site.transposed,
        clipped=ranges.outside(wanted),
        packed=technique.packed,
    )


def widths(technique: Groups, profile: Profile, *, where: str) -> tuple[Option, ...]:
    """What fewer and fewer bits of one site cost, by some of its rows where those stand alone."""
    few = sampled(profile, where)
    known, found = few.sites[where], []
    more = profile.sites[where].site.rows / known.site.rows
    worst, least, smallest = 0.0, float("inf"), 1 << 62
    for bits in WIDTHS:
        made = technique.model_copy(update={"bits": bits}).apply(few, (where,))[where]
        if not isinstance(made, Grouped):
            raise TypeError(f"{technique.name} made {type(made).__name__}")
        lost = known.damage(few.matrix(where), known.site.matrix(made.decode()))
        worst = max(worst, more * lost * (known.sensitivity or 0.0))
        least = min(least, storage_bytes(made, more=more))
        smallest = min(smallest, installed_bytes(made, more=more))
        found.append(Option({"bits": bits}, worst, least, smallest))
    return tuple(found)


def storage_bytes(made: Grouped, *, more: float = 1.0) -> float:
    """Of codes, steps and zeros in the packed file, for `more` times as many rows."""
    zeros = 0.0 if made.zeros is None else estimate_bits(made.zeros.numpy()) / 8
    columns = 0 if made.column_steps is None else STEP_BYTES * len(made.column_steps)
    rows = estimate_bits(made.codes.numpy()) / 8 + STEP_BYTES * made.steps.numel() + zeros
    return more * rows + columns


def installed_bytes(made: Grouped, *, more: float = 1.0) -> int:
    """Of codes, steps and zeros in the runnable file, for `more` times as many rows."""
    width = packed_width(made.bits)
    parts = [made.codes] if made.zeros is None else [made.codes, made.zeros]
    rows = sum(-(-part.numel() * width // 8) for part in parts) + 4 * made.steps.numel()
    return round(more * rows) + (0 if made.column_steps is None else 4 * len(made.column_steps))
