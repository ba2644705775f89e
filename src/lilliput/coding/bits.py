"""Fields of a few bits, most significant bit first, packed into bytes; and small varints."""

import numpy as np
from numpy.typing import NDArray

from lilliput.errors import ContainerError

Integers = NDArray[np.int64]


def pack_fields(fields: Integers, widths: Integers) -> bytes:
    """Fields of `widths` (0 to 33) bits each, one after the other; the last byte is zero-filled."""
    out = bytearray()
    for start in range(0, len(fields), 1 << 16):  # whole chunks end on a byte only at the end
        out += _bits(fields[start : start + (1 << 16)], widths[start : start + (1 << 16)]).tobytes()
    return np.packbits(np.frombuffer(bytes(out), np.uint8)).tobytes()


def _bits(fields: Integers, widths: Integers) -> NDArray[np.uint8]:
    ends = np.cumsum(widths)
    owner = np.repeat(np.arange(len(fields)), widths)
    shift = ends[owner] - 1 - np.arange(len(owner))
    return ((fields[owner] >> shift) & 1).astype(np.uint8)


def unpack_fields(data: bytes, widths: Integers) -> Integers:
    """The inverse of `pack_fields`. The caller has checked that `data` holds all the bits."""
    padded = np.frombuffer(data + bytes(8), np.uint8)
    ends = np.cumsum(widths)
    starts = ends - widths
    at = starts >> 3
    window = np.zeros(len(widths), np.uint64)
    for offset in range(5):
        window = window << np.uint64(8) | padded[at + offset]
    shift = (40 - widths - (starts & 7)).astype(np.uint64)
    mask = (np.uint64(1) << widths.astype(np.uint64)) - np.uint64(1)
    return (window >> shift & mask).astype(np.int64)


def varint(value: int) -> bytes:
    """A non-negative integer in base 128, least significant group first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    """0, -1, 1, -2 ... -> 0, 1, 2, 3 ..."""
    return value << 1 if value >= 0 else -value * 2 - 1


class Reader:
    """Reads a coded stream from the front; every length is checked before it is used."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        self.position = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            ContainerError: There are fewer.
        """
        if size < 0 or size > len(self.data) - self.position:
            raise ContainerError("a coded tensor is damaged: it ends too early")
        self.position += size
        return bytes(self.data[self.position - size : self.position])

    def rest(self) -> bytes:
        """Everything not yet read."""
        return self.take(len(self.data) - self.position)

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def varint(self, limit: int = 1 << 40) -> int:
        """A number below `limit` in base 128.

        Raises:
            ContainerError: It is not below `limit`, or ends too early.
        """
        value = 0
        for shift in range(0, 70, 7):
            group = self.byte()
            value |= (group & 0x7F) << shift
            if group < 0x80:
                break
        if value >= limit:
            raise ContainerError(f"a coded tensor is damaged: {value} is beyond the limit {limit}")
        return value

    def signed(self, limit: int = 1 << 40) -> int:
        """A zigzag number whose magnitude is at most `limit`."""
        value = self.varint(2 * limit + 1)
        return -(value + 1 >> 1) if value & 1 else value >> 1
