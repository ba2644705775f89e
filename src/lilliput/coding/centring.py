"""Integer codes brought around zero, with their magnitude indices."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lilliput.coding.tokens import LARGEST_SPLIT, magnitude_indices

SAMPLE = 4096


@dataclass(frozen=True)
class Centred:
    """Integer codes less their offset, with what every later step needs.

    Attributes:
        values: Codes minus `offset`, (rows, columns), int32 or int64.
        offset: A constant of the matrix; 0 where the codes lie around 0.
        split: Magnitudes below 2^split have tokens of their own.
        index: Magnitude index of each value, (rows, columns) uint8.
    """

    values: NDArray[np.signedinteger]
    offset: int
    split: int
    index: NDArray[np.uint8]


def centre(codes: NDArray[np.integer]) -> Centred:
    """Subtract the median where the codes do not lie around zero; find the magnitude indices."""
    offset = _offset(codes)
    values: NDArray[np.signedinteger]
    if codes.dtype.itemsize < 4 and offset == 0:
        values = codes.astype(np.int32)
    else:
        values = codes.astype(np.int64) - offset
    magnitudes = np.abs(values)
    largest = int(magnitudes.max())
    split = min(max(largest.bit_length(), 1), LARGEST_SPLIT)
    if largest < 1 << split:
        index = magnitudes.astype(np.uint8)
    elif largest < 1 << 16:
        index = magnitude_indices(np.arange(largest + 1), split)[magnitudes]
    else:
        index = magnitude_indices(magnitudes, split)
    return Centred(values, offset, split, index)


def _offset(codes: NDArray[np.integer]) -> int:
    sample = codes.reshape(-1)[:: max(1, codes.size // SAMPLE)]
    middle = int(np.median(sample))
    spread = float(np.mean(np.abs(sample.astype(np.float64) - middle)))
    return middle if abs(middle) > spread else 0
