"""Integers of any size as a small alphabet of tokens plus raw bits.

Token 0 is the value 0. A magnitude m has an index j, and its token is ``2 j - 1`` where the value
is positive and ``2 j`` where it is negative. Below ``2^split`` the index is the magnitude itself;
above, every octave is cut in two halves, and the position inside the half follows as raw bits. The
last token of a stream is the escape: the magnitude itself as raw bits, then the sign.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
LARGEST_SPLIT = 6
MAGNITUDE_BITS = 32  # magnitudes are below 2^32
ESCAPE_BITS = MAGNITUDE_BITS + 1


@dataclass(frozen=True)
class Ranges:
    """What each magnitude index stands for, for one `split`: first magnitude and raw bits."""

    first: Integers
    bits: Integers


@cache
def ranges(split: int) -> Ranges:
    """Magnitude indices 0 ... of a split in [1, 6]: their first magnitude and raw bits."""
    first, bits = list(range(1 << split)), [0] * (1 << split)
    for octave in range(split, MAGNITUDE_BITS):
        for half in (0, 1):
            first.append((2 + half) << (octave - 1))
            bits.append(octave - 1)
    return Ranges(np.array(first, np.int64), np.array(bits, np.int64))


def largest_token(magnitude: int, split: int) -> int:
    """The token of ``-magnitude``: no value up to this magnitude has a larger one."""
    return 2 * int(np.searchsorted(ranges(split).first, magnitude, side="right") - 1)


def tokenize(values: Integers, split: int) -> NDArray[np.uint8]:
    """The token of each value, same shape. Values lie strictly between -2^32 and 2^32."""
    if not values.size:
        return np.zeros(values.shape, np.uint8)
    low, high = int(values.min()), int(values.max())
    if high - low < max(values.size, 1 << 12):
        return np.asarray(_tokens_of(np.arange(low, high + 1), split)[values - low])
    return _tokens_of(values, split)


def _tokens_of(values: Integers, split: int) -> NDArray[np.uint8]:
    index = np.searchsorted(ranges(split).first, np.abs(values), side="right") - 1
    return (2 * index - (values > 0)).astype(np.uint8)


def raw_fields(
    values: Integers, tokens: NDArray[np.uint8], split: int, escape: int
) -> tuple[Integers, Integers]:
    """The raw bits that follow the tokens: (fields, their widths), in stream order."""
    table = ranges(split)
    index = (tokens.astype(np.int64) + 1) >> 1
    escaped = tokens == escape
    index[escaped] = 0
    widths = np.where(escaped, ESCAPE_BITS, table.bits[index])
    chosen = np.flatnonzero(widths)
    values, index, escaped = values[chosen], index[chosen], escaped[chosen]
    magnitudes = np.abs(values)
    fields = np.where(escaped, magnitudes << 1 | (values < 0), magnitudes - table.first[index])
    return fields, widths[chosen]


def raw_widths(split: int, escape: int) -> Integers:
    """Raw bits after each token, (256,): the escape's width included."""
    widths = np.zeros(256, np.int64)
    bits = np.repeat(ranges(split).bits, 2)[1:]
    widths[: len(bits)] = bits
    widths[escape] = ESCAPE_BITS
    return widths


def values_of(
    tokens: NDArray[np.uint8], split: int, escape: int, *, places: Integers, fields: Integers
) -> Integers:
    """The inverse of `tokenize`: tokens and the raw fields at `places` -> values, int64."""
    table = ranges(split)
    first = np.zeros(256, np.int64)
    magnitudes = np.repeat(table.first, 2)[1:]
    signs = np.where(np.arange(len(magnitudes)) % 2 == 1, 1, -1)
    first[: len(magnitudes)] = magnitudes * signs
    values = first[tokens]
    at = tokens[places]
    grown = values[places] + np.where(at % 2 == 1, fields, -fields)
    escaped = np.where(fields & 1, -(fields >> 1), fields >> 1)
    values[places] = np.where(at == escape, escaped, grown)
    return values
