"""The best linear map from rows to rows, by sums over batches."""

import torch
from torch import Tensor

from lilliput.tensor.low_rank import best_products
from lilliput.tensor.second_order import inverse_factor

RIDGE = 0.01  # of the mean square of the inputs, where there are far fewer rows than inputs


class PairSums:
    """Sums over pairs of rows (x, y) that a least-squares map of x to y needs.

    Args:
        inputs: Length of x.
        outputs: Length of y.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self.count = 0
        self._x = torch.zeros(inputs, dtype=torch.float64)
        self._y = torch.zeros(outputs, dtype=torch.float64)
        self._xx = torch.zeros(inputs, inputs, dtype=torch.float64)
        self._yx = torch.zeros(outputs, inputs, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Counts rows.

        Args:
            x: (N, inputs).
            y: (N, outputs).
        """
        x, y = x.double(), y.double()
        self.count += len(x)
        self._x += x.sum(0)
        self._y += y.sum(0)
        self._xx += x.t() @ x
        self._yx += y.t() @ x

    def fitted(self, *, rank: int = 0) -> tuple[list[Tensor], Tensor]:
        """The map ``y = A x + b`` of least squared error; A shrinks where rows are few.

        A ridge of d / (d + N) of `RIDGE` is added to the second moment of N rows of d inputs. A
        smaller rank is the best one under that moment (reduced-rank regression, Izenman 1975).

        Args:
            rank: Of A; 0 for any.

        Returns:
            A, (outputs, inputs), or its factors (rank, inputs) and (outputs, rank); and b.

        Raises:
            ValueError: No row was counted.
        """
        if not self.count:
            raise ValueError("no row was counted")
        x, y = self._x / self.count, self._y / self.count
        inner = self._xx / self.count - x[:, None] * x
        across = self._yx / self.count - y[:, None] * x
        ridge = RIDGE * len(x) / (len(x) + self.count)
        inner.diagonal().add_(ridge * inner.diagonal().mean().clamp_min(1e-30))
        full = torch.linalg.solve(inner, across.t()).t()
        factors = [full.float()]
        if 0 < rank < min(full.shape):
            products = best_products(full.float(), factor=inverse_factor(inner.float()))
            factors = list(products.at(rank))
        whole = factors[0] if len(factors) == 1 else factors[1] @ factors[0]
        return factors, (y - whole.double() @ x).float()
