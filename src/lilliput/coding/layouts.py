"""Which scales and which tables make a matrix smallest: the encoder's choice."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lilliput.coding import classes, family, fitting, tokens
from lilliput.coding.centring import Centred
from lilliput.errors import InternalError

SAMPLE = 150_000  # codes looked at when layouts are compared
SMALLEST = 256  # codes; below, row and column codes cannot pay
FAMILY_BITS = 16  # shape and zero index


@dataclass(frozen=True)
class Layout:
    """How a matrix will be coded.

    Attributes:
        scales: Scale index of every code.
        family: The family's parameters, already applied to `scales`; None: stored counts.
        bits: What the whole matrix costs, roughly.
    """

    scales: classes.Scales
    family: fitting.FamilyChoice | None
    bits: float


def choose(centred: Centred) -> Layout:
    """The cheapest layout, compared on a sample of rows."""
    index, values = centred.index, centred.values
    rows, columns = values.shape
    skip = max(1, values.size // SAMPLE) if rows * SAMPLE >= 16 * values.size else 1
    symbols = tokens.of_index(index[::skip], values[::skip])
    grown = rows / len(symbols)
    row, column = classes.fit_magnitudes(np.abs(values), centred.split)
    found = []
    for strides in candidate_strides(rows, columns):
        scales = classes.quantize_lines(row, column, strides)
        part = replace(scales, row_codes=scales.row_codes[::skip])
        found += _layouts(
            scales, part.grid(symbols.shape), symbols, grown=grown, split=centred.split
        )
    if not found:
        raise InternalError("no layout for a coded matrix")
    return min(found, key=lambda layout: layout.bits)


def candidate_strides(rows: int, columns: int) -> list[tuple[int, int]]:
    """Pairs of row and column stride worth comparing."""
    if rows == 1 or columns == 1 or rows * columns < SMALLEST:
        return [(0, 0)]
    return [
        (row, column)
        for row in classes.STRIDES
        for column in classes.STRIDES
        if not row or not column or max(row, column) <= 4 * min(row, column)
    ]


def _layouts(
    scales: classes.Scales,
    grid: NDArray[np.uint8],
    symbols: NDArray[np.uint8],
    *,
    grown: float,
    split: int,
) -> list[Layout]:
    """The two ways of having tables with these scales, from a sample `grown` times smaller."""
    sides = fitting.vector_bits(scales.row_codes) + fitting.vector_bits(scales.column_codes)
    low, counts = fitting.histogram(grid, symbols, int(symbols.max()) + 1)
    counts *= grown
    folded = fitting.fold(counts)
    chosen = fitting.fit_family(low, folded, split)
    raw = float(folded.sum(0) @ tokens.ranges(split).bits[: folded.shape[1]])
    base = min(max(scales.base + chosen.shift, 0), family.SCALES - 1)
    return [
        Layout(replace(scales, base=base), chosen, chosen.bits + sides + FAMILY_BITS),
        Layout(scales, None, fitting.counted_bits(counts) + raw + sides),
    ]
