"""Weights that share a few values: the values learn, and which weight has which.

Trained shared values: Han et al. 2016, arXiv 1510.00149.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from lilliput.learning.constraints.constraint import Constraint, Learn, view_of
from lilliput.model.encodings import Codebook


class OnValues(Constraint):
    """A weight that is ``values[codes] * row_steps``; the steps of rows stand still.

    Args:
        book: What the weight begins as.
        learn: ``scales``: codes stand still and values learn. ``all``: a latent weight learns too,
            and each weight has the value nearest to it.
        sparse: Weights that are 0 stay 0.
    """

    codes: Tensor
    firsts: Tensor
    unit: Tensor
    moving: Tensor
    rows: Tensor
    kept: Tensor | None

    def __init__(self, book: Codebook, *, learn: Learn, sparse: bool = False) -> None:
        super().__init__()
        self.free = learn == "all"
        self.view, self._book = view_of(book), book
        zero = book.values == 0
        self.register_buffer("codes", book.codes.clone())
        self.register_buffer("firsts", book.values.clone())
        self.register_buffer("unit", book.values.abs().mean().clamp_min(1e-12))
        self.register_buffer("moving", ~zero if sparse else torch.ones_like(zero))
        self.register_buffer("rows", book.row_steps.clone())
        self.register_buffer("kept", ~zero[book.codes.long()] if sparse else None)
        self.shift = nn.Parameter(torch.zeros_like(book.values))

    @property
    def values(self) -> Tensor:
        """(values,) shared values by now, in the order in which they began."""
        return self.firsts + self.unit * self.shift * self.moving

    def start(self) -> tuple[Tensor, ...]:
        """The weight of shared values."""
        return (self._book.decode(),)

    def chosen(self, *latents: Tensor) -> Tensor:
        """(rows, columns) int64, which value each weight has."""
        if not self.free:
            return self.codes.long()
        values, order = self.values.detach().sort()
        wanted = self.view.matrix(latents[0].detach()).float() / self.rows[:, None]
        codes = order[torch.bucketize(wanted.contiguous(), (values[1:] + values[:-1]) / 2)]
        return codes if self.kept is None else torch.where(self.kept, codes, self.codes.long())

    def forward(self, *latents: Tensor) -> Tensor:
        """The order of multiplication is that of `Codebook.decode`."""
        matrix = self.values[self.chosen(*latents)] * self.rows[:, None]
        if self.free:
            moved = self.view.matrix(latents[0]).float()
            moved = moved if self.kept is None else moved * self.kept
            matrix = matrix + (moved - moved.detach())
        return self.view.parameter(matrix).to(latents[0].dtype)

    def encoding(self, *latents: Tensor) -> Codebook:
        """The values by now, in rising order."""
        values, order = self.values.detach().sort()
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        codes = places[self.chosen(*latents)].to(self.codes.dtype).contiguous()
        return replace(self._book, codes=codes, values=values)
