"""What a matrix will cost, without coding it: for the planner's search."""

import numpy as np
from numpy.typing import NDArray

from lilliput.coding import classes, fitting
from lilliput.coding.centring import centre
from lilliput.coding.matrix import check

HEADER_BITS = 8 * 18
STRIDES = (2, 2)


def estimate_bits(codes: NDArray[np.integer]) -> float:
    """Ideal size in bits under the class model, side information included, without coding.

    Within about 1 % of ``8 * code_bytes(codes)`` from some thousand codes on.

    Args:
        codes: (rows, columns) integers in [-2^31, 2^31).

    Raises:
        ContainerError: Not a matrix of such integers.
    """
    check(codes)
    if not codes.size:
        return 24.0
    centred = centre(codes)
    row, column = classes.fit_magnitudes(np.abs(centred.values), centred.split)
    strides = STRIDES if min(codes.shape) > 1 else (0, 0)
    scales = classes.quantize_lines(row, column, strides)
    size = int(centred.index.max()) + 1
    low, counts = fitting.histogram(scales.grid(codes.shape), centred.index, size)
    sides = fitting.vector_bits(scales.row_codes) + fitting.vector_bits(scales.column_codes)
    classed = fitting.fit_family(low, counts, centred.split).bits + sides
    middle = low + int(np.searchsorted(np.cumsum(counts.sum(1)), codes.size / 2))
    single = fitting.fit_family(middle, counts.sum(0, keepdims=True), centred.split).bits
    return HEADER_BITS + min(classed, single)
