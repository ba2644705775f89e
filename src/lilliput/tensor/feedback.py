"""Rounding that lets weights still to come absorb the error: later columns, and later rows.

With ``damage = tr(G (W - V) H (W - V)^T)`` the error of one weight can be made up for in its row,
as far as the inputs are correlated (H), and in its column, as far as the outputs are (G).
The first is arXiv 2210.17323, both together arXiv 2505.22988.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

BLOCK = 64  # columns that wait for one product of matrices
FEWEST_ROWS = 16
MOST_ROW_BLOCKS = 48
ROW_DAMPING = 1e-3
Meet = Callable[[Tensor, int], Tensor]
Begin = Callable[[Tensor, slice], None]


@dataclass(frozen=True)
class RowFactor:
    """What an error in one row moves into the rows still to come.

    Attributes:
        order: (out,) rows in the order in which they are rounded: those that cost most come first,
            so that others are left to absorb their errors.
        factor: (out, out) float32, U of ``G[order][:, order] = U D U^T``: upper triangular with
            ones on its diagonal, D diagonal.
        worth: (out,) float32, D in the rows' own order: what an error in a row costs once the rows
            after it have made up for what they can.
    """

    order: Tensor
    factor: Tensor
    worth: Tensor


@dataclass(frozen=True)
class Rounding:
    """How one value becomes a code.

    Attributes:
        dead_zone: In [0, 0.5): magnitudes are rounded by adding ``0.5 - dead_zone`` and taking the
            floor, which trades damage for bits (entropy-constrained quantization, Sullivan 1996).
        kept: (out, in) bool, False where the code must be zero; None where none must.
        largest: Magnitude that no code exceeds; None: the grid is unbounded. What is cut off is
            part of the error that later columns absorb.
    """

    dead_zone: float = 0.0
    kept: Tensor | None = None
    largest: int | None = None


NEAREST = Rounding()


def row_factor(output: Tensor) -> RowFactor:
    """The factorisation of the row side that `feedback_codes` needs.

    Args:
        output: Row side G, (out, out), positive semidefinite.
    """
    order = torch.argsort(output.diagonal(), descending=True, stable=True)
    sorted_ = output[order][:, order].to(torch.float64)
    diagonal = sorted_.diagonal()
    diagonal += ROW_DAMPING * diagonal.mean().clamp_min(1e-12)
    backward = torch.linalg.cholesky(sorted_.flip(0, 1)).flip(0, 1)  # R of G = R R^T, upper
    diagonal = backward.diagonal()
    worth = torch.empty_like(diagonal)
    worth[order] = diagonal.square()
    return RowFactor(order, (backward / diagonal).to(torch.float32), worth.to(torch.float32))


def feedback_codes(
    weight: Tensor,
    factor: Tensor,
    row_steps: Tensor,
    *,
    column_steps: Tensor | None = None,
    rows: RowFactor | None = None,
    rounding: Rounding = NEAREST,
) -> Tensor:
    """Rounds column after column, and block of rows after block of rows where `rows` is given.

    Unless `rounding` bounds it, the grid is unbounded: codes are entropy-coded, so a large one is
    rare and merely costs bits (arXiv 2505.18758 shows why that beats a clipped grid at equal size).

    Args:
        weight: (out, in).
        factor: Upper Cholesky factor of the inverse of the second moments, (in, in), or
            (groups, in, in) with the rows split evenly over the groups in order.
        row_steps: (out,) positive.
        column_steps: (in,) positive factors on the step, or None.
        rows: Where errors go from row to row; only without groups. Within a block of rows
            (a forty-eighth of them, at least 16) none absorbs another's error.
        rounding: How one value becomes a code.

    Returns:
        (out, in) int32 codes.

    Raises:
        ValueError: `rows` with more than one group.
    """
    out, columns = weight.shape
    factors = factor.reshape(-1, columns, columns).to(torch.float32)
    groups = len(factors)
    if rows is not None:
        if groups > 1:
            raise ValueError("rows of different groups share no inputs")
        order = rows.order
        if rounding.kept is not None:
            rounding = replace(rounding, kept=rounding.kept[order])
        found = torch.empty(out, columns, dtype=torch.int32)
        found[order] = _in_order(
            weight[order], factors, row_steps[order], column_steps, rounding, rows.factor
        )
        return found
    return _in_order(weight, factors, row_steps, column_steps, rounding, None)


def row_block(rows: int) -> int:
    """How many rows are rounded at once, none absorbing another's error."""
    return max(FEWEST_ROWS, -(-rows // MOST_ROW_BLOCKS))


def feed_back(
    weight: Tensor, factor: Tensor, *, meet: Meet, block: int = BLOCK, begin: Begin | None = None
) -> Tensor:
    """Column after column is met by other values; the columns after it absorb the error.

    The same order as in `feedback_codes`, for values that lie on no uniform grid.

    Args:
        weight: (out, in).
        factor: Upper Cholesky factor of the inverse of the second moments, (in, in).
        meet: A column, (out,), and its place -> the values it gets, (out,).
        block: Columns that wait for one product of matrices.
        begin: Told each block, (out, block), as it stands before its first column, and where it is.

    Returns:
        (out, in) float32.
    """
    rest = weight.to(torch.float32).t().clone(memory_format=torch.contiguous_format)
    values = torch.empty_like(rest)
    for start in range(0, len(rest), block):
        stop = min(start + block, len(rest))
        if begin is not None:
            begin(rest[start:stop].t(), slice(start, stop))
        errors = torch.empty(stop - start, rest.shape[1])
        within = factor[start:stop, start:stop].t().contiguous().numpy()
        # numpy, whose calls cost less than torch's on such small arrays
        lost, left = errors.numpy(), rest[start:stop].numpy()
        for done, column in enumerate(range(start, stop)):
            if done:
                left[done] -= within[done, :done] @ lost[:done]
            values[column] = meet(rest[column], column)
            np.subtract(left[done], values[column].numpy(), out=lost[done])
            lost[done] /= within[done, done]
        rest[stop:] -= factor[start:stop, stop:].t() @ errors
    return values.t().contiguous()


def _in_order(
    weight: Tensor,
    factors: Tensor,
    row_steps: Tensor,
    column_steps: Tensor | None,
    rounding: Rounding,
    between: Tensor | None,
) -> Tensor:
    """Everything in units of the steps: codes are whole numbers, and errors fractions of a step."""
    groups, columns = factors.shape[:2]
    out = len(weight)
    wide = torch.ones(columns) if column_steps is None else column_steps.to(torch.float32)
    diagonal = factors.diagonal(dim1=1, dim2=2)  # (groups, in)
    side = _Columns(
        factors=factors / wide,
        scale=wide / diagonal,
        lean=rounding.dead_zone,
        largest=rounding.largest,
    )
    # (groups, in, out / groups): a column of the weight is contiguous, a group is a batch.
    target = _by_column(weight / row_steps[:, None] / wide, groups)
    kept = None if rounding.kept is None else _by_column(rounding.kept.to(torch.float32), groups)
    if between is None:
        codes, _ = side.rows(target, None, kept)
        return codes.transpose(1, 2).reshape(out, columns)
    moved = between * (row_steps[:, None] / row_steps[None, :])
    codes = torch.empty(columns, out, dtype=torch.int32)
    errors = torch.empty(columns, out)
    size = row_block(out)
    for start in range(0, out, size):
        block = slice(start, min(start + size, out))
        shift = errors[:, :start] @ moved[:start, block] / side.scale.t() if start else None
        found = side.rows(
            target[:, :, block].contiguous(),
            None if shift is None else shift[None],
            None if kept is None else kept[:, :, block].contiguous(),
        )
        codes[:, block], errors[:, block] = found[0][0], found[1][0]
    return codes.t().contiguous()


def _by_column(matrix: Tensor, groups: int) -> Tensor:
    """(groups, in, out / groups), contiguous, a copy."""
    out, columns = matrix.shape
    parts = matrix.reshape(groups, out // groups, columns)
    return parts.transpose(1, 2).clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class _Columns:
    """The column side: what an error moves into later columns.

    Attributes:
        factors: (groups, in, in), row i over the step of column j.
        scale: (groups, in) from a rounding error to what later columns are to absorb.
        lean: The dead zone.
        largest: Magnitude that no code exceeds, or None.
    """

    factors: Tensor
    scale: Tensor
    lean: float
    largest: int | None

    def rows(
        self, target: Tensor, shift: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Codes and scaled errors, both (groups, in, rows); `target` is used up.

        `shift` is what earlier rows ask of these: it is rounded with the target, yet is no part of
        the error that later columns absorb. Where `kept` is 0 the code is.
        """
        columns = target.shape[1]
        codes, errors = torch.empty_like(target), torch.empty_like(target)
        for start in range(0, columns, BLOCK):
            block = slice(start, min(start + BLOCK, columns))
            if start:
                ahead = self.factors[:, :start, block].transpose(1, 2)
                target[:, block] -= ahead @ errors[:, :start]
            self._block(
                self.factors[:, block, block].transpose(1, 2).contiguous().numpy(),
                self.scale[:, block].numpy(),
                target[:, block].numpy(),
                None if shift is None else shift[:, block].numpy(),
                kept=None if kept is None else kept[:, block].numpy(),
                codes=codes[:, block].numpy(),
                errors=errors[:, block].numpy(),
            )
        return codes.to(torch.int32), errors

    def _block(
        self,
        within: np.ndarray,
        scale: np.ndarray,
        rest: np.ndarray,
        shift: np.ndarray | None,
        *,
        kept: np.ndarray | None,
        codes: np.ndarray,
        errors: np.ndarray,
    ) -> None:
        """One block of columns; numpy, whose calls cost less than torch's on such small arrays."""
        reach, scale = np.float32(0.5 - self.lean), scale[..., None]
        if len(rest) == 1:  # the same without a dimension of one
            within, scale, rest, codes, errors = (
                array[0] for array in (within, scale, rest, codes, errors)
            )
            shift = None if shift is None else shift[0]
            kept = None if kept is None else kept[0]
        asked = rest if shift is None else shift  # without a shift nothing is asked
        parts = [array.swapaxes(0, -2) for array in (rest, codes, errors, scale, asked)]
        for i, (column, code, error, size, more) in enumerate(zip(*parts, strict=True)):
            if i:
                moved = np.matmul(within[..., None, i, :i], errors[..., :i, :])
                column -= moved.reshape(column.shape)
            value = column if shift is None else column + more
            if self.lean:
                np.copysign(reach, value, out=code)
                code += value
                np.trunc(code, out=code)
            else:
                np.rint(value, out=code)
            if self.largest is not None:
                np.clip(code, -self.largest, self.largest, out=code)
            if kept is not None:
                code *= kept[..., i, :]
            column -= code
            np.multiply(column, size, out=error)
