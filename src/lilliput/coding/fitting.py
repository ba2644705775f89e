"""What codes cost under the family and under their own counts: the encoder's judgement.

Nothing here runs in the decoder. Costs are in bits.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lilliput.coding import classes, family
from lilliput.coding.rans import TOTAL
from lilliput.coding.tokens import ESCAPE_BITS, ranges

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
SHAPE_CHOICES = np.array([6, 8, 10, 12, 13, 14, 15, 16, 17, 18, 20, 24, 32])
SHIFTS = np.arange(-4, 5)
ZERO_CHOICES = np.array([-64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64, 112])
VECTOR_BYTES = 16  # side vector: header and final state
TABLE_BITS = 13  # of one frequency in a stored table, on average


@dataclass(frozen=True)
class FamilyChoice:
    """Parameters of the family for a matrix, and the bits its codes cost with them."""

    shift: int
    shape: int
    zero: int
    bits: float


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


def fold(counts: Floats) -> Floats:
    """Counts of tokens (scales, tokens) -> counts of magnitude indices."""
    counts = np.pad(counts, ((0, 0), (0, 1 - counts.shape[1] % 2)))
    return np.concatenate([counts[:, :1], counts[:, 1::2] + counts[:, 2::2]], axis=1)


def fit_family(low: int, counts: Floats, split: int) -> FamilyChoice:
    """The cheapest (scale shift, shape, zero factor) for counts of magnitude indices.

    Args:
        low: Scale index of the first row of `counts`.
        counts: (scales, indices).
        split: The split the indices belong to.
    """
    costs, zero = _family_costs(split)
    place = SHIFTS[:, None] - SHIFTS[0] + np.arange(len(counts))  # (shifts, scales) in the window
    window = np.clip(low + np.arange(SHIFTS[0], len(counts) + SHIFTS[-1]), 0, family.SCALES - 1)
    products = costs[:, window, : counts.shape[1]] @ counts.T  # (shapes, window, scales)
    plain = products[:, place, np.arange(len(counts))].sum(2)
    rows = window[place]
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
