"""Weights on grids that learn: codes by rounding a latent weight, steps along with them.

Learned step size quantization (LSQ): Esser et al. 2020, arXiv 1902.08153. A step is learned as the
logarithm of what it is multiplied with, so that it stays positive and an adaptive optimizer changes
it by a share of itself; LSQ's scale of its gradient does that for plain descent.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from lilliput.learning.constraints.constraint import Constraint, Learn, straight, view_of
from lilliput.model.encodings import Grid, Grouped, Outliers


class OnGrid(Constraint):
    """A weight that is ``codes * row_steps * column_steps``.

    Codes stay within the range they had at first, so that a grid of few bits keeps its width and
    int8 stays int8. `relaxed` gives the codes before they
    are rounded: a loss on their rate (bits after entropy coding) is a function of them; its
    gradient reaches latent weight and steps. See `lilliput.learning.squeezing`.

    Args:
        grid: What the weight begins as.
        learn: ``scales``: codes stand still and only steps (and outliers) learn. ``all``: the
            latent weight learns too.
        sparse: Codes that are 0 stay 0.
        together: The steps of all rows are multiplied with one number: those that were the same
            stay so, and are stored once.
    """

    codes: Tensor
    rows: Tensor
    columns: Tensor | None
    kept: Tensor | None

    def __init__(
        self, grid: Grid, *, learn: Learn, sparse: bool = False, together: bool = False
    ) -> None:
        super().__init__()
        self.free = learn == "all"
        self.view, self._grid = view_of(grid), grid
        self.ends = (int(grid.codes.min()), int(grid.codes.max())) if grid.codes.numel() else (0, 0)
        self.register_buffer("codes", grid.codes.clone())
        self.register_buffer("rows", grid.row_steps.clone())
        self.register_buffer("columns", grid.column_steps)
        self.register_buffer("kept", grid.codes != 0 if sparse else None)
        self.growth = nn.Parameter(
            torch.zeros_like(grid.row_steps[:1] if together else grid.row_steps)
        )
        if grid.outliers is not None:
            self.register_buffer("places", grid.outliers.places)
            self.outliers = nn.Parameter(grid.outliers.weight.clone())

    @property
    def steps(self) -> Tensor:
        """(rows,) steps of the rows by now."""
        return self.rows * self.growth.exp()

    def start(self) -> tuple[Tensor, ...]:
        """The weight on its grid: its codes are those it has."""
        return (self._grid.decode(),)

    def relaxed(self, *latents: Tensor) -> Tensor:
        """(rows, columns) codes before rounding, inside their range; with gradients."""
        scaled = self.view.matrix(latents[0]).float() / self.steps[:, None]
        if self.columns is not None:
            scaled = scaled / self.columns[None, :]
        return scaled.clamp(*self.ends)

    def rounded(self, *latents: Tensor) -> Tensor:
        """(rows, columns) codes as the model computes with them."""
        if not self.free:
            return self.codes.float()
        relaxed = self.relaxed(*latents)
        codes = straight(relaxed, relaxed.round())
        if "places" in self._buffers:
            codes = codes.index_fill(1, self._buffers["places"], 0.0)  # type: ignore[arg-type]
        return codes if self.kept is None else codes * self.kept

    def forward(self, *latents: Tensor) -> Tensor:
        """The order of multiplication is that of `Grid.decode`."""
        matrix = self.rounded(*latents) * self.steps[:, None]
        if self.columns is not None:
            matrix = matrix * self.columns[None, :]
        if "places" in self._buffers:
            matrix = matrix.index_copy(1, self._buffers["places"], self.outliers)  # type: ignore[arg-type]
        return self.view.parameter(matrix).to(latents[0].dtype)

    def encoding(self, *latents: Tensor) -> Grid:
        """The grid by now; how inputs and results are rounded is as it was."""
        outliers = self._grid.outliers
        if outliers is not None:
            outliers = Outliers(outliers.places, self.outliers.detach().clone())
        return replace(
            self._grid,
            codes=self.rounded(*latents).detach().to(self.codes.dtype).contiguous(),
            row_steps=self.steps.detach().clone(),
            outliers=outliers,
        )


class OnGroups(Constraint):
    """A weight that is ``(codes - zeros) * steps``, with steps per row and group of columns.

    The codes that mean zero stay as they are.

    Args:
        grouped: What the weight begins as.
        learn: As for `OnGrid`.
        sparse: Codes that mean zero stay so.
    """

    codes: Tensor
    firsts: Tensor
    zeros: Tensor
    columns: Tensor | None
    place: Tensor
    kept: Tensor | None

    def __init__(self, grouped: Grouped, *, learn: Learn, sparse: bool = False) -> None:
        super().__init__()
        self.free = learn == "all"
        self.view, self._grouped = view_of(grouped), grouped
        zeros = torch.full_like(grouped.steps, 2.0 ** (grouped.bits - 1))
        if grouped.zeros is not None:
            zeros = grouped.zeros.float()
        place = torch.arange(grouped.codes.shape[1]) // grouped.group
        self.register_buffer("codes", grouped.codes.clone())
        self.register_buffer("firsts", grouped.steps.clone())
        self.register_buffer("zeros", zeros)
        self.register_buffer("columns", grouped.column_steps)
        self.register_buffer("place", place)
        self.register_buffer("kept", grouped.codes != zeros[:, place] if sparse else None)
        self.growth = nn.Parameter(torch.zeros_like(grouped.steps))

    @property
    def steps(self) -> Tensor:
        """(rows, groups) steps by now."""
        return self.firsts * self.growth.exp()

    def start(self) -> tuple[Tensor, ...]:
        """The weight on its grid."""
        return (self._grouped.decode(),)

    def rounded(self, *latents: Tensor) -> Tensor:
        """(rows, columns) codes as the model computes with them."""
        if not self.free:
            return self.codes.float()
        zeros = self.zeros[:, self.place]
        scaled = self.view.matrix(latents[0]).float()
        if self.columns is not None:
            scaled = scaled / self.columns[None, :]
        scaled = scaled / self.steps[:, self.place] + zeros
        inside = scaled.clamp(0, 2**self._grouped.bits - 1)
        codes = straight(inside, inside.round())
        return codes if self.kept is None else torch.where(self.kept, codes, zeros)

    def forward(self, *latents: Tensor) -> Tensor:
        """The order of multiplication is that of `Grouped.decode`."""
        levels = self.rounded(*latents) - self.zeros[:, self.place]
        matrix = levels * self.steps[:, self.place]
        if self.columns is not None:
            matrix = matrix * self.columns[None, :]
        return self.view.parameter(matrix).to(latents[0].dtype)

    def encoding(self, *latents: Tensor) -> Grouped:
        """The groups by now."""
        codes = self.rounded(*latents).detach().to(self.codes.dtype).contiguous()
        return replace(self._grouped, codes=codes, steps=self.steps.detach().clone())
