"""Which layout and which tables make a matrix smallest: the encoder's choice, in floating point.

Nothing here runs in the decoder. Costs are in bits.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lilliput.coding import classes, family
from lilliput.coding.rans import TOTAL
from lilliput.coding.tokens import ESCAPE_BITS, LARGEST_SPLIT, ranges

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
SHAPE_CHOICES = np.array([6, 8, 10, 12, 13, 14, 15, 16, 17, 18, 20, 24, 32])
SHIFTS = np.arange(-4, 5)
ZERO_CHOICES = np.array([-64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64, 112])
SAMPLE = 150_000  # codes looked at when layouts are compared
VECTOR_BYTES = 16  # side vector: header and final state
TABLE_BITS = 13  # of one frequency in a stored table, on average


@dataclass(frozen=True)
class Centred:
    """Integer codes less their offset, with what every later step needs.

    Attributes:
        values: Codes minus `offset`, (rows, columns).
        offset: A constant of the matrix; 0 where the codes lie around 0.
        split: Magnitudes below 2^split have tokens of their own.
        index: Magnitude index of each value, (rows, columns) uint8.
    """

    values: Integers
    offset: int
    split: int
    index: NDArray[np.uint8]


@dataclass(frozen=True)
class FamilyChoice:
    """Parameters of the family for a matrix, and the bits its codes cost with them."""

    shift: int
    shape: int
    zero: int
    bits: float


def centre(codes: NDArray[np.integer]) -> Centred:
    """Subtract the median where the codes do not lie around zero; find the magnitude indices."""
    sample = codes.reshape(-1)[:: max(1, codes.size // 4096)]
    middle = int(np.median(sample)) if codes.size else 0
    spread = float(np.mean(np.abs(sample.astype(np.float64) - middle))) if codes.size else 0.0
    offset = middle if abs(middle) > spread else 0
    narrow = codes.dtype.itemsize < 4 and offset == 0
    values = codes.astype(np.int32) if narrow else codes.astype(np.int64) - offset
    magnitudes = np.abs(values)
    largest = int(magnitudes.max()) if codes.size else 0
    split = min(max(largest.bit_length(), 1), LARGEST_SPLIT)
    if largest < 1 << split:
        index = magnitudes.astype(np.uint8)
    elif largest < 1 << 16:
        index = _indices(np.arange(largest + 1), split)[magnitudes]
    else:
        index = _indices(magnitudes, split)
    return Centred(values, offset, split, index)


def _indices(magnitudes: Integers, split: int) -> NDArray[np.uint8]:
    found = np.searchsorted(ranges(split).first, magnitudes, side="right") - 1
    return found.astype(np.uint8)


def histogram(
    scales: NDArray[np.uint8], symbols: NDArray[np.uint8], size: int
) -> tuple[int, Floats]:
    """Counts of each symbol at each scale: (lowest scale, (scales in use, size))."""
    low, high = int(scales.min()), int(scales.max())
    joint = (scales - np.uint8(low)).astype(np.intp)
    joint *= size
    joint += symbols
    counts = np.bincount(joint.reshape(-1), minlength=(high - low + 1) * size)
    return low, counts.reshape(high - low + 1, size).astype(np.float64)


@lru_cache(maxsize=8)
def _family_costs(split: int) -> tuple[Floats, Floats]:
    """Bits per magnitude index, (shapes, scales, indices), and P(0), (shapes, scales)."""
    table = ranges(split)
    sign = np.minimum(np.arange(len(table.first)), 1)
    each = [classes.probabilities(int(shape), split) for shape in SHAPE_CHOICES]
    probability = np.stack(each) / (1 + sign)
    rare = probability < 0.25 / TOTAL
    bits = table.bits - np.log2(np.maximum(probability, 1 / TOTAL))
    costs = np.where(rare, np.log2(TOTAL) + ESCAPE_BITS, bits)
    return costs, np.minimum(probability[..., 0], 1 - 1 / TOTAL)


def fit_family(low: int, counts: Floats, split: int) -> FamilyChoice:
    """The cheapest (scale shift, shape, zero factor) for counts of magnitude indices.

    Args:
        low: Scale index of the first row of `counts`.
        counts: (scales, indices).
        split: The split the indices belong to.
    """
    costs, zero = _family_costs(split)
    rows = np.clip(low + SHIFTS[:, None] + np.arange(len(counts)), 0, family.SCALES - 1)
    plain = np.empty((len(SHAPE_CHOICES), len(SHIFTS)))
    for at, row in enumerate(rows):
        plain[:, at] = np.tensordot(costs[:, row, : counts.shape[1]], counts, 2)
    total, zeros = counts.sum(1), float(counts[:, 0].sum())
    factor = 2.0 ** (ZERO_CHOICES / 16)
    p = zero[:, rows][..., None]  # (shapes, shifts, scales, 1)
    change = np.einsum("k,abkz->abz", total, np.log2(1 - p + p * factor)) - zeros * np.log2(factor)
    bits = plain[..., None] + change
    shape, shift, z = np.unravel_index(int(np.argmin(bits)), bits.shape)
    return FamilyChoice(
        int(SHIFTS[shift]),
        int(SHAPE_CHOICES[shape]),
        int(ZERO_CHOICES[z]) + family.ZERO_CENTRE,
        float(bits[shape, shift, z]),
    )


def counted_bits(counts: Floats, *, thrifty: float = TABLE_BITS) -> float:
    """Bits of tokens coded with their own counts, stored tables included: (scales, tokens)."""
    totals = counts.sum(1, keepdims=True)
    seen = counts > 0
    ratio = np.divide(totals, counts, out=np.ones_like(counts), where=seen)
    return float((counts * np.log2(ratio)).sum()) + thrifty * int(seen.sum())


def vector_bits(codes: NDArray[np.uint8]) -> float:
    """Bits of a vector of row or column codes, roughly."""
    if not len(codes):
        return 0.0
    counts = np.bincount(codes).astype(np.float64)
    return counted_bits(counts[None, :], thrifty=4) + 8 * VECTOR_BYTES


def candidate_scales(centred: Centred) -> list[classes.Scales]:
    """The layouts worth comparing: each side without codes, or at several strides."""
    rows, columns = centred.values.shape
    row, column = classes.fit_lines(np.abs(centred.values), centred.split)
    row_strides = classes.STRIDES if rows > 1 and columns > 1 else (0,)
    column_strides = classes.STRIDES if rows > 1 and columns > 1 else (0,)
    found = []
    for row_stride in row_strides:
        for column_stride in column_strides:
            finer = min(row_stride or 8, column_stride or 8)
            if max(row_stride, column_stride) <= 4 * finer:
                strides = (row_stride, column_stride)
                found.append(classes.quantize_lines(row, column, strides))
    return found
