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


def magnitude_indices(magnitudes: NDArray[np.signedinteger], split: int) -> NDArray[np.uint8]:
    """The index of each magnitude below 2^32, same shape."""
    found = np.searchsorted(ranges(split).first, magnitudes, side="right") - 1
    return found.astype(np.uint8)


def of_index(index: NDArray[np.uint8], values: NDArray[np.signedinteger]) -> NDArray[np.uint8]:
    """Tokens from the magnitude indices of values, same shape."""
    tokens: NDArray[np.uint8] = np.subtract(index << 1, values > 0, dtype=np.uint8)
    return tokens


def raw_fields(
    values: NDArray[np.signedinteger], tokens: NDArray[np.uint8], split: int, escape: int
) -> tuple[Integers, Integers]:
    """The raw bits that follow the tokens: (fields, their widths), in stream order."""
    widths = raw_widths(split, escape)
    if not widths[: int(tokens.max()) + 1].any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    places = (widths > 0)[tokens].nonzero()[0]
    chosen, values = tokens[places], values[places].astype(np.int64)
    magnitudes, first = np.abs(values), np.repeat(ranges(split).first, 2)[1:]
    fields = magnitudes - first[np.minimum(chosen, len(first) - 1)]
    fields = np.where(chosen == escape, magnitudes << 1 | (values < 0), fields)
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
