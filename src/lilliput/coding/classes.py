"""Which table each code of a matrix uses: one scale per (row code + column code).

Rows and columns of a weight differ in spread. Code (r, c) uses scale index
``base + row_stride * row_code[r] + column_stride * column_code[c]`` in eighths of an octave. The
codes come from the sums of magnitudes of rows and columns alone: each is the one at which the
family's expected sum equals the sum found (moment matching, a few alternations).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lilliput.coding import family
from lilliput.coding.tokens import ranges

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
STRIDES = (0, 1, 2, 4, 8)  # eighths of an octave; 0: no codes on this side
TYPICAL_SHAPE = 15  # measured on error-feedback codes: between 14 and 16
ROUNDS = 3


@dataclass(frozen=True)
class Scales:
    """The scale index of every code of a matrix.

    Attributes:
        base: Scale index of row code 0 and column code 0.
        strides: (row stride, column stride), each in `STRIDES`.
        row_codes: (rows,) uint8, or empty where the row stride is 0.
        column_codes: (columns,) uint8, or empty where the column stride is 0.
    """

    base: int
    strides: tuple[int, int]
    row_codes: NDArray[np.uint8]
    column_codes: NDArray[np.uint8]

    def grid(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Scale index per code: (rows, columns), clipped to the scales there are."""
        row, column = np.zeros(shape[0], np.int64), np.zeros(shape[1], np.int64)
        if self.strides[0]:
            row = self.row_codes.astype(np.int64) * self.strides[0]
        if self.strides[1]:
            column = self.column_codes.astype(np.int64) * self.strides[1]
        return _outer_sum(row + self.base, column)


class TableGrid:
    """Which table each code uses, in row order, made piece by piece: as long as the matrix.

    Args:
        scales: The scale index of every code.
        shape: (rows, columns), both at least 1.
    """

    def __init__(self, scales: Scales, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.row = np.zeros(shape[0], np.int16) + scales.base
        self.column = np.zeros(shape[1], np.int16)
        if scales.strides[0]:
            self.row += scales.row_codes.astype(np.int16) * scales.strides[0]
        if scales.strides[1]:
            self.column += scales.column_codes.astype(np.int16) * scales.strides[1]
        sums = np.add.outer(np.unique(self.row), np.unique(self.column))
        self.used = np.unique(np.minimum(sums, family.SCALES - 1))
        reached = np.minimum(np.arange(int(sums.max()) + 1), family.SCALES - 1)
        self.number = np.searchsorted(self.used, reached).astype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        start, stop, _ = part.indices(len(self))
        if len(self.used) == 1:
            return np.zeros(max(stop - start, 0), np.uint8)
        (first, left), (last, right) = divmod(start, self.shape[1]), divmod(stop, self.shape[1])
        if first == last:
            sums = self.row[first] + self.column[left:right]
        else:
            between = np.add.outer(self.row[first + 1 : last], self.column).reshape(-1)
            pieces = [self.row[first] + self.column[left:], between]
            if right:
                pieces.append(self.row[last] + self.column[:right])
            sums = np.concatenate(pieces)
        found: NDArray[np.uint8] = self.number[sums]
        return found


def _outer_sum(row: Integers, column: Integers) -> NDArray[np.uint8]:
    """Sums clipped to the scale indices: (rows,), (columns,) -> (rows, columns) uint8."""
    top = family.SCALES - 1
    low, high = int(row.min() + column.min()), int(row.max() + column.max())
    if low >= 0 and high <= top and row.min() >= 0 and column.min() >= 0:
        return np.add.outer(row.astype(np.uint8), column.astype(np.uint8))
    total = np.add.outer(row.astype(np.int16), column.astype(np.int16))
    return np.clip(total, 0, top).astype(np.uint8)


def probabilities(shape: int, split: int) -> Floats:
    """The family in floating point, for the encoder's choices only.

    Probability of each magnitude index at each scale index, either sign: (192, indices).
    """
    points, width = family.sample_points(split, len(ranges(split).first))
    log = np.log2(points / 16)[None] - (np.arange(family.SCALES)[:, None, None] - 64) / 8
    weight = np.exp2(-np.exp2(np.minimum(log * shape / 8, 9))).mean(2) * width
    weight[:, 0] = np.maximum(weight[:, 0], 1e-150)
    weight[:, 1:] *= 2
    result: Floats = weight / weight.sum(1, keepdims=True)
    return result


@lru_cache(maxsize=8)
def expected_magnitudes(split: int) -> Floats:
    """Mean |value| of the family at each scale index, rising: (192,)."""
    table = ranges(split)
    middle = table.first + (np.left_shift(1, table.bits) - 1) / 2
    means: Floats = np.maximum.accumulate(probabilities(TYPICAL_SHAPE, split) @ middle)
    return means


def _match(sums: Floats, others: Integers, expected: Floats) -> Integers:
    """Scale index per line so that the expected sum over `others` offsets meets its sum."""
    offsets, counts = np.unique(others, return_counts=True)
    index = np.arange(-family.SCALES, family.SCALES)
    reach = np.clip(index[:, None] + offsets[None, :], 0, family.SCALES - 1)
    curve = np.maximum.accumulate(expected[reach] @ counts.astype(np.float64))
    place = np.searchsorted(curve, np.maximum(sums, 0.3)).clip(1, len(index) - 1)
    nearer = sums - curve[place - 1] < curve[place] - sums
    found: Integers = index[place - nearer]
    return found


def fit_magnitudes(magnitudes: NDArray[np.integer], split: int) -> tuple[Integers, Integers]:
    """Scale index per row and offset per column, from |codes|, (rows, columns).

    A matrix of one line has one scale for all its codes.
    """
    if 1 in magnitudes.shape:
        mean = np.full(1, magnitudes.mean(dtype=np.float64))
        row, column = fit_sums(mean, mean, split)
        return np.repeat(row, magnitudes.shape[0]), np.repeat(column, magnitudes.shape[1])
    rows, columns = (magnitudes.sum(axis, dtype=np.float64) for axis in (1, 0))
    return fit_sums(rows, columns, split)


def fit_sums(rows: Floats, columns: Floats, split: int) -> tuple[Integers, Integers]:
    """Scale index per row and offset per column, in eighths of an octave.

    Args:
        rows: Sum of |codes| of each row.
        columns: Sum of |codes| of each column.
        split: The split of the codes.
    """
    expected = expected_magnitudes(split)
    column = np.zeros(len(columns), np.int64)
    row = _match(rows, column, expected)
    for _ in range(ROUNDS):
        column = _match(columns, row, expected)
        column -= int(np.median(column))
        row = _match(rows, column, expected)
    return row, column


def quantize_lines(row: Integers, column: Integers, strides: tuple[int, int]) -> Scales:
    """Codes at the given strides from scale indices at stride 1."""
    base, codes = 0, []
    for line, stride in ((row, strides[0]), (column, strides[1])):
        if stride:
            low = int(line.min())
            code = np.minimum((line - low + stride // 2) // stride, family.SCALES // stride)
            codes.append(code.astype(np.uint8))
            base += low
        else:
            codes.append(np.zeros(0, np.uint8))
            base += round(float(line.mean()))
    return Scales(min(max(base, 0), family.SCALES - 1), strides, codes[0], codes[1])
