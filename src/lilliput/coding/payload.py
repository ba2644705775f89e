"""A tensor's bytes in a stream, losslessly: the smallest of a few forms.

A stream begins with its form. docs/format.md, "Tensor streams", lists the bytes of each.
"""

import zlib
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lilliput.coding.bits import varint
from lilliput.coding.matrix import encode_matrix

Bytes = NDArray[np.uint8]
MATRIX_TYPES = ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8")
DEFLATE_TRIAL = 1 << 16  # bytes; longer data are deflated only if their first part gains
PALETTE_LIMIT = 1 << 12
PALETTE_SAMPLE = 1 << 13
INCOMPRESSIBLE_BITS = 7.95  # of a byte


class Form(IntEnum):
    """First byte of a stream."""

    RAW = 0
    DEFLATE = 1
    MATRIX = 2
    HALF = 3
    PALETTE = 4
    PLANES = 5
    NIBBLES = 6


def encode_bytes(data: bytes) -> bytes:
    """A stream of bytes without structure: deflated where that is shorter."""
    packed = _deflate(data)
    if len(packed) < len(data):
        return bytes([Form.DEFLATE]) + packed
    return bytes([Form.RAW]) + data


def encode_tensor(data: bytes, kind: np.dtype[np.generic], dims: tuple[int, ...]) -> bytes:
    """A stream of a tensor's little-endian bytes.

    Args:
        data: The values, ``prod(dims)`` of `kind`.
        kind: Element type: any integer or float type of numpy of 1 to 8 bytes.
        dims: Shape; the first dimension makes the rows.
    """
    rows = dims[0] if len(dims) > 1 else 1
    values = np.frombuffer(data, kind).reshape(rows, -1)
    if kind.kind in "iu" and kind.itemsize <= 4:
        return min(_matrix(values), _maybe_deflated(data), key=len)
    found = [_maybe_deflated(data)]
    if kind.itemsize > 1:
        found.append(_planes(values))
        found.extend(_palette(values))
    if kind == np.dtype("<f4"):
        found.extend(_half(values))
    return min(found, key=len)


def encode_nibbles(data: bytes, rows: int) -> bytes:
    """A stream of packed 4-bit values, low nibble first: (rows, bytes) as (rows, 2 bytes) codes."""
    packed = np.frombuffer(data, np.uint8).reshape(rows, -1)
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, -1)
    coded = bytes([Form.NIBBLES]) + encode_matrix(codes.astype(np.int8))
    return min(coded, _maybe_deflated(data), key=len)


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _maybe_deflated(data: bytes) -> bytes:
    """Deflated, unless a trial on the first part promises little: then raw."""
    part = data[:DEFLATE_TRIAL]
    if len(_deflate(part)) < 0.9 * len(part) or len(data) <= DEFLATE_TRIAL:
        return encode_bytes(data)
    return bytes([Form.RAW]) + data


def _matrix(values: NDArray[np.integer]) -> bytes:
    form = bytes([Form.MATRIX, MATRIX_TYPES.index(values.dtype.str)])
    if values.dtype.str == "<u4" and values.size and int(values.max()) >= 1 << 31:
        return bytes([Form.RAW]) + values.tobytes()
    return form + encode_matrix(values)


def _planes(values: NDArray[np.generic]) -> bytes:
    """One stream per byte of the elements; floats are rotated so that the exponent is one byte."""
    size = values.dtype.itemsize
    words = values.view(f"<u{size}")
    rotated = values.dtype.kind == "f"
    if rotated:
        words = words << 1 | words >> (8 * size - 1)
    planes = np.ascontiguousarray(words).view(np.uint8).reshape(-1, size)
    out = bytearray([Form.PLANES, size + 128 * rotated])
    for plane in planes.T:
        coded = _plane(np.ascontiguousarray(plane))
        out += varint(len(coded)) + coded
    return bytes(out)


def _plane(plane: Bytes) -> bytes:
    raw = bytes([Form.RAW]) + plane.tobytes()
    counts = np.bincount(plane, minlength=256)
    seen = counts[counts > 0]
    if float(seen @ np.log2(len(plane) / seen)) > INCOMPRESSIBLE_BITS * len(plane):
        return raw
    return min(_matrix(plane[None, :]), _maybe_deflated(plane.tobytes()), raw, key=len)


def _palette(values: NDArray[np.generic]) -> list[bytes]:
    """Few distinct values: the values in ascending order of their bits, and their indices."""
    size = values.dtype.itemsize
    words = values.view(f"<u{size}").reshape(values.shape)
    sample = words.reshape(-1)[:: max(1, words.size // PALETTE_SAMPLE)]
    if len(np.unique(sample)) > min(PALETTE_LIMIT, len(sample) // 2):
        return []
    distinct, index = np.unique(words, return_inverse=True)
    if len(distinct) > PALETTE_LIMIT:
        return []
    if values.dtype.kind == "f":  # ascending as numbers, so that neighbours are alike
        order = np.argsort(distinct.view(values.dtype), kind="stable")
        distinct, index = distinct[order], np.argsort(order, kind="stable")[index]
    colours = encode_bytes(distinct.tobytes())
    out = bytes([Form.PALETTE, size]) + varint(len(distinct)) + varint(len(colours)) + colours
    return [out + encode_matrix(index.reshape(values.shape).astype(np.int16))]


def _half(values: NDArray[np.generic]) -> list[bytes]:
    """float32 that is float16 in disguise."""
    if np.isnan(values).any():  # not every processor keeps their bits
        return []
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    back = half.astype("<f4")
    if back.tobytes() != values.tobytes():
        return []
    return [bytes([Form.HALF]) + encode_tensor(half.tobytes(), half.dtype, half.shape)]
