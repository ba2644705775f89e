"""Several small integers in one byte, the first in the lowest bits, as ONNX packs them."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def packed_width(bits: int) -> int:
    """Bits in which codes of so many bits are stored: 2, 4 or 8, which divide a byte."""
    return 2 if bits <= 2 else 4 if bits <= 4 else 8


def pack_codes(codes: Bytes, width: int) -> Bytes:
    """Codes side by side in bytes, the last axis filled up with zeros.

    Args:
        codes: (..., n) below ``2**width``.
        width: 2, 4 or 8.

    Returns:
        (..., ceil(n * width / 8)).
    """
    each = 8 // width
    missing = -codes.shape[-1] % each
    whole = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, missing)])
    parts = whole.reshape(*codes.shape[:-1], -1, each)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    packed: Bytes = np.bitwise_or.reduce(parts << shifts, axis=-1).astype(np.uint8)
    return packed


def unpack_codes(packed: Bytes, width: int, *, count: int) -> Bytes:
    """The inverse of `pack_codes`: (..., count).

    Raises:
        ValueError: The last axis does not hold so many codes.
    """
    if packed.shape[-1] != -(-count * width // 8):
        raise ValueError(f"{packed.shape[-1]} bytes do not hold {count} codes of {width} bits")
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & np.uint8(2**width - 1)
    codes: Bytes = parts.reshape(*packed.shape[:-1], -1)[..., :count]
    return codes
