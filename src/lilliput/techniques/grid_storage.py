"""Integer codes as the encoding that is shipped."""

import torch
from torch import Tensor

from lilliput.model.encodings import Grid
from lilliput.model.sites import Site

INT8_LARGEST = 127
INT16_LARGEST = 32767


def as_grid(
    site: Site, codes: Tensor, *, row_steps: Tensor, column_steps: Tensor | None = None
) -> Grid:
    """A `Grid` in int8 where every code fits, else in int16, clipped and counted beyond that.

    Args:
        site: The site.
        codes: (rows, columns) integers.
        row_steps: (rows,) positive.
        column_steps: (columns,) positive factors, or None.
    """
    largest = int(codes.abs().max()) if codes.numel() else 0
    clipped = int((codes.abs() > INT16_LARGEST).sum()) if largest > INT16_LARGEST else 0
    kind = torch.int8 if largest <= INT8_LARGEST else torch.int16
    return Grid(
        codes=codes.clamp(-INT16_LARGEST, INT16_LARGEST).to(kind).contiguous(),
        row_steps=row_steps.to(torch.float32),
        column_steps=column_steps,
        shape=site.shape,
        transposed=site.transposed,
        clipped=clipped,
    )
