"""What one pass over calibration examples leaves behind for each site."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lilliput.model.spread import Spread


@dataclass(frozen=True)
class Moments:
    """Streamed statistics of what goes into a site and of what its output is worth.

    Attributes:
        second: Sum over calibration rows of x xᵀ, (groups, in, in) float32, for the columns of the
            site's matrix view; None where nothing was multiplied (an embedding that is not tied).
            Sites that read the same values share one tensor.
        count: Number N of calibration rows in `second`, masked positions left out.
        mean: Mean of x, (groups, in) float32; None where `second` is.
        output: Second moment of the gradient of a label-free objective with respect to the site's
            output, mean over positions: (out, out) or (out,) its diagonal, and (columns, columns)
            for an embedding;
            None until `lilliput.model.gradients.observe_gradients` has run.
        frequencies: Embeddings: how often each row was looked up, (rows,) float64; else None.
        inputs: How far what goes into the site reaches; None where it is read in several places,
            or in parts.
        results: The same for what a convolution hands on, BatchNorm and rectifier applied, else
            None.
        absorbed: Whether the convolution before could multiply the channels it reads; see
            `lilliput.model.chains.absorbed`.
    """

    second: Tensor | None
    count: int
    mean: Tensor | None = None
    output: Tensor | None = None
    frequencies: Tensor | None = None
    inputs: Spread | None = None
    results: Spread | None = None
    absorbed: bool = False

    def shrunk(self) -> Tensor:
        """E[x xᵀ], (groups, in, in) float32, shrunk toward its diagonal by d / (d + N).

        d is the number of inputs. With few rows the plain estimate overfits badly.

        Raises:
            ValueError: There is no second moment, or no row was counted.
        """
        if self.second is None or self.count == 0:
            raise ValueError("this site has no second moment")
        columns = self.second.shape[-1]
        weight = columns / (columns + self.count)
        diagonal = torch.diagonal(self.second, dim1=-2, dim2=-1)
        shrunk = self.second * ((1 - weight) / self.count)
        torch.diagonal(shrunk, dim1=-2, dim2=-1).copy_(diagonal / self.count)
        return shrunk

    @property
    def dead(self) -> Tensor:
        """Inputs that were zero in every row, (groups, in) bool."""
        if self.second is None:
            raise ValueError("this site has no second moment")
        return torch.diagonal(self.second, dim1=-2, dim2=-1) == 0

    @property
    def constant(self) -> Tensor:
        """Inputs whose spread is below 0.1 % of their size (dead ones included), (groups, in)."""
        if self.second is None or self.mean is None:
            raise ValueError("this site has no second moment")
        power = torch.diagonal(self.second, dim1=-2, dim2=-1) / max(1, self.count)
        return power - self.mean.square() <= 1e-6 * power

    def with_output(self, output: Tensor | None) -> "Moments":
        """The same moments with `output` filled in."""
        return replace(self, output=output)


def small_sample(name: str, moments: Moments) -> str | None:
    """A warning where the rows are too few for the inputs (N < 4 d), or None."""
    if moments.second is None or moments.count >= 4 * moments.second.shape[-1]:
        return None
    columns = moments.second.shape[-1]
    return (
        f"{name}: {moments.count} calibration rows for {columns} inputs; at least {4 * columns} "
        "are wanted, so give more calibration examples"
    )
