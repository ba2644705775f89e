"""Sites: the weights of a model that can change."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Kind = Literal["linear", "conv", "embedding", "recurrent", "matmul"]


@dataclass(frozen=True)
class Site:
    """One weight that can change.

    Attributes:
        name: Qualified name of the parameter, as in ``model.named_parameters()``.
        kind: Which operation reads it. ``matmul`` is a raw parameter in ``x @ p``.
        shape: Shape of the parameter.
        rows: Outputs of its matrix view.
        columns: Inputs of its matrix view (for a convolution: in_channels / groups * kernel).
        transposed: The parameter is stored (in, out): its matrix view is the transpose of
            ``parameter.reshape(columns, rows)``.
        groups: Groups of a convolution; row r belongs to group ``r // (rows // groups)``.
        ties: Other qualified names under which the same tensor is registered.
        uses: How many graph nodes read it (a shared module is used more than once).
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    rows: int
    columns: int
    transposed: bool = False
    groups: int = 1
    ties: tuple[str, ...] = ()
    uses: int = 1

    def matrix(self, parameter: Tensor) -> Tensor:
        """The (rows, columns) matrix view of the parameter's value."""
        if self.transposed:
            return parameter.reshape(self.columns, self.rows).t()
        return parameter.reshape(self.rows, self.columns)

    def parameter(self, matrix: Tensor) -> Tensor:
        """The inverse of `matrix`: a (rows, columns) tensor back in the parameter's shape."""
        return (matrix.t() if self.transposed else matrix).reshape(self.shape)

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.rows * self.columns
