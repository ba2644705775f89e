"""A tensor's bytes in a stream, losslessly: the smallest of a few forms.

A stream begins with its form. docs/format.md, "Tensor streams", lists the bytes of each.
"""

import zlib
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lilliput.coding.bits import varint
from lilliput.coding.drafts import Draft
from lilliput.coding.matrix import draft_matrix
from lilliput.tensor.packing import unpack_codes

Bytes = NDArray[np.uint8]
MATRIX_TYPES = ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8")
DEFLATE_TRIAL = 1 << 15  # bytes; longer data are deflated only if their middle gains
DEFLATE_GAIN = 0.97  # that much, compared with the best other form
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
    CRUMBS = 7


def draft_bytes(data: bytes) -> Draft:
    """A stream of bytes without structure: deflated where that is shorter."""
    packed = _deflate(data)
    return Draft((bytes([Form.DEFLATE]), packed)) if len(packed) < len(data) else _raw(data)


def draft_tensor(data: bytes, kind: np.dtype[np.generic], dims: tuple[int, ...]) -> Draft:
    """A stream of a tensor's little-endian bytes.

    Args:
        data: The values, ``prod(dims)`` of `kind`.
        kind: Element type: any integer or float type of numpy of 1 to 8 bytes.
        dims: Shape; the first dimension makes the rows.
    """
    if not data:
        return _raw(data)
    rows = dims[0] if len(dims) > 1 else 1
    values = np.frombuffer(data, kind).reshape(rows, -1)
    if kind.kind in "iu" and kind.itemsize <= 4:
        return _shortest(data, _matrix(values))
    found = [_raw(data)]
    if kind.itemsize > 1:
        found.append(_planes(values))
        found.extend(_palette(values))
    if kind == np.dtype("<f4"):
        found.extend(_half(values))
    return _shortest(data, *found)


def draft_parts(data: bytes, rows: int, *, width: int) -> Draft:
    """A stream of packed values of 4 or 2 bits, lowest first: (rows, bytes) as codes."""
    packed = np.frombuffer(data, np.uint8).reshape(rows, -1)
    codes = unpack_codes(packed, width, count=packed.shape[1] * 8 // width)
    form = bytes([Form.NIBBLES if width == 4 else Form.CRUMBS])
    return _shortest(data, Draft((form, draft_matrix(codes.astype(np.int8)))))


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _raw(data: bytes) -> Draft:
    return Draft((bytes([Form.RAW]), data))


def _shortest(data: bytes, *found: Draft) -> Draft:
    """The shortest of the forms found, raw bytes and deflate.

    Long data are deflated only if a trial on their middle says that it may pay.
    """
    best = min([*found, _raw(data)], key=lambda draft: draft.size)
    start = max(len(data) - DEFLATE_TRIAL, 0) // 2
    part = data[start : start + DEFLATE_TRIAL]
    promised = len(_deflate(part)) * len(data)
    if len(part) < len(data) and promised > DEFLATE_GAIN * best.size * len(part):
        return best
    packed = Draft((bytes([Form.DEFLATE]), _deflate(data)))
    return packed if packed.size < best.size else best


def _matrix(values: NDArray[np.integer]) -> Draft:
    if values.dtype.str == "<u4" and values.size and int(values.max()) >= 1 << 31:
        return _raw(values.tobytes())
    form = bytes([Form.MATRIX, MATRIX_TYPES.index(values.dtype.str)])
    return Draft((form, draft_matrix(values)))


def _planes(values: NDArray[np.generic]) -> Draft:
    """One stream per byte of the elements; floats are rotated so that the exponent is one byte."""
    size = values.dtype.itemsize
    words = values.view(f"<u{size}")
    rotated = values.dtype.kind == "f"
    if rotated:
        words = words << 1 | words >> (8 * size - 1)
    planes = np.ascontiguousarray(words).view(np.uint8).reshape(-1, size)
    streams = [Draft((_plane(np.ascontiguousarray(plane)),), prefixed=True) for plane in planes.T]
    return Draft((bytes([Form.PLANES, size + 128 * rotated]), *streams))


def _plane(plane: Bytes) -> Draft:
    counts = np.bincount(plane, minlength=256)
    seen = counts[counts > 0]
    if float(seen @ np.log2(len(plane) / seen)) > INCOMPRESSIBLE_BITS * len(plane):
        return _raw(plane.tobytes())
    return _shortest(plane.tobytes(), _matrix(plane[None, :]))


def _palette(values: NDArray[np.generic]) -> list[Draft]:
    """Few distinct values: the values in ascending order, and the index of each element."""
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
    return [
        Draft(
            (
                bytes([Form.PALETTE, size]) + varint(len(distinct)),
                Draft((draft_bytes(distinct.tobytes()),), prefixed=True),
                draft_matrix(index.reshape(values.shape).astype(np.int16)),
            )
        )
    ]


def _half(values: NDArray[np.generic]) -> list[Draft]:
    """float32 that is float16 in disguise."""
    if np.isnan(values).any():  # not every processor keeps their bits
        return []
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if half.astype("<f4").tobytes() != values.tobytes():
        return []
    return [Draft((bytes([Form.HALF]), draft_tensor(half.tobytes(), half.dtype, half.shape)))]
