"""Streams back to a tensor's bytes. Hostile input is refused; sizes are checked before use."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lilliput.coding.bits import Reader
from lilliput.coding.matrix_decoder import decode_matrices
from lilliput.coding.payload import MATRIX_TYPES, PALETTE_LIMIT
from lilliput.errors import ContainerError
from lilliput.tensor.packing import pack_codes

MAX_DEPTH = 4
Matrices = Sequence[NDArray[np.integer]]


@dataclass(frozen=True)
class Wanted:
    """A coded matrix inside a stream: its bytes, number of codes and element type."""

    data: bytes
    count: int
    kind: str


@dataclass(frozen=True)
class Parsed:
    """A stream whose matrices are still to be decoded.

    Attributes:
        wanted: Its coded matrices.
        assemble: Makes the tensor's bytes out of the decoded matrices.
    """

    wanted: tuple[Wanted, ...]
    assemble: Callable[[Matrices], bytes]


def decode_streams(streams: Sequence[tuple[bytes, int]]) -> list[bytes]:
    """Tensor bytes of several streams, each given with its exact decoded size in bytes.

    All their matrices are decoded in lock-step.

    Raises:
        ContainerError: A stream is damaged or does not have the size it should.
    """
    parsed = [parse(Reader(data), size, 0) for data, size in streams]
    wanted = [item for stream in parsed for item in stream.wanted]
    matrices = decode_matrices(
        [item.data for item in wanted],
        counts=[item.count for item in wanted],
        types=[np.dtype(item.kind) for item in wanted],
    )
    result, position = [], 0
    for stream in parsed:
        end = position + len(stream.wanted)
        result.append(stream.assemble(matrices[position:end]))
        position = end
    return result


def parse(reader: Reader, size: int, depth: int) -> Parsed:
    """One stream of `size` decoded bytes, parsed as far as its matrices.

    Raises:
        ContainerError: It is damaged.
    """
    form = reader.byte()
    if depth > MAX_DEPTH or form >= len(_PARSERS):
        raise ContainerError("a stream is damaged: an unknown form")
    return _PARSERS[form](reader, size, depth)


def _constant(data: bytes, size: int) -> Parsed:
    if len(data) != size:
        raise ContainerError(f"a stream is damaged: {len(data)} bytes where {size} are declared")
    return Parsed((), lambda _: data)


def _raw(reader: Reader, size: int, depth: int) -> Parsed:
    return _constant(reader.rest(), size)


def _deflated(reader: Reader, size: int, depth: int) -> Parsed:
    return _constant(inflate(reader.rest(), size), size)


def inflate(data: bytes, size: int) -> bytes:
    """Raw deflate data of exactly `size` decoded bytes; never allocates more.

    Raises:
        ContainerError: The data are damaged or of another size.
    """
    unpacker = zlib.decompressobj(-15)
    try:
        result = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        raise ContainerError(f"a stream is damaged: {error}") from error
    if len(result) != size or not unpacker.eof or unpacker.unused_data:
        raise ContainerError(f"a stream is damaged: it does not inflate to {size} bytes")
    return result


def _whole(size: int, unit: int) -> int:
    if not 1 <= unit <= 8 or size % unit:
        raise ContainerError("a stream is damaged: its size is no multiple of its elements")
    return size // unit


def _matrix(reader: Reader, size: int, depth: int) -> Parsed:
    number = reader.byte()
    if number >= len(MATRIX_TYPES):
        raise ContainerError("a stream is damaged: an unknown element type")
    kind = MATRIX_TYPES[number]
    wanted = Wanted(reader.rest(), _whole(size, np.dtype(kind).itemsize), kind)
    return Parsed((wanted,), lambda matrices: matrices[0].tobytes())


def _half(reader: Reader, size: int, depth: int) -> Parsed:
    inner = parse(reader, 2 * _whole(size, 4), depth + 1)

    def assemble(matrices: Matrices) -> bytes:
        with np.errstate(invalid="ignore"):
            return np.frombuffer(inner.assemble(matrices), "<f2").astype("<f4").tobytes()

    return Parsed(inner.wanted, assemble)


def _palette(reader: Reader, size: int, depth: int) -> Parsed:
    unit, number = reader.byte(), reader.varint(PALETTE_LIMIT + 1)
    count = _whole(size, unit)
    colours = parse(Reader(reader.take(reader.varint())), number * unit, depth + 1)
    if colours.wanted:
        raise ContainerError("a stream is damaged: a palette in a form that it may not have")
    table = np.frombuffer(colours.assemble(()), np.uint8).reshape(number, unit)
    wanted = Wanted(reader.rest(), count, "<u2")

    def assemble(matrices: Matrices) -> bytes:
        index = matrices[0].reshape(-1)
        if index.size and int(index.max()) >= number:
            raise ContainerError("a stream is damaged: an index beyond its palette")
        return table[index].tobytes()

    return Parsed((wanted,), assemble)


def _planes(reader: Reader, size: int, depth: int) -> Parsed:
    flags = reader.byte()
    unit, rotated = flags & 127, flags >> 7
    count = _whole(size, unit)
    if unit not in (2, 4, 8):
        raise ContainerError("a stream is damaged: planes of an unknown element size")
    planes = [parse(Reader(reader.take(reader.varint())), count, depth + 1) for _ in range(unit)]

    def assemble(matrices: Matrices) -> bytes:
        out, position = np.empty((count, unit), np.uint8), 0
        for at, plane in enumerate(planes):
            end = position + len(plane.wanted)
            out[:, at] = np.frombuffer(plane.assemble(matrices[position:end]), np.uint8)
            position = end
        words = out.reshape(-1).view(f"<u{unit}")
        return (words >> 1 | words << (8 * unit - 1)).tobytes() if rotated else words.tobytes()

    return Parsed(tuple(item for plane in planes for item in plane.wanted), assemble)


def _parts(reader: Reader, size: int, width: int) -> Parsed:
    """Bytes of several codes, the first in the lowest bits."""
    each = 8 // width
    wanted = Wanted(reader.rest(), each * size, "|u1")

    def assemble(matrices: Matrices) -> bytes:
        codes = matrices[0].reshape(-1, each)
        if codes.size and int(codes.max()) >= 1 << width:
            raise ContainerError(f"a stream is damaged: a code of more than {width} bits")
        return pack_codes(codes.astype(np.uint8), width).tobytes()

    return Parsed((wanted,), assemble)


def _nibbles(reader: Reader, size: int, depth: int) -> Parsed:
    return _parts(reader, size, 4)


def _crumbs(reader: Reader, size: int, depth: int) -> Parsed:
    return _parts(reader, size, 2)


_PARSERS: tuple[Callable[[Reader, int, int], Parsed], ...] = (
    _raw,
    _deflated,
    _matrix,
    _half,
    _palette,
    _planes,
    _nibbles,
    _crumbs,
)
