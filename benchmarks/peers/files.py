"""One plain file format for all peers that have none of their own.

A file holds either bit-packed codes as they are or everything through zstd (codes one byte each,
which its entropy coder needs), whichever is smaller: the peer gets the better of the two.
"""

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

LEVEL = 19
PACKED, ZSTD = 0, 1
NAMES = {PACKED: "packed", ZSTD: "zstd"}


@dataclass(frozen=True)
class Plain:
    """A tensor kept in its type (fp16 or fp32), any shape."""

    values: Tensor

    def decode(self) -> Tensor:
        """The tensor in fp32."""
        return self.values.float()


@dataclass(frozen=True)
class Grouped:
    """Groups of consecutive weights with one scale and zero each: ``(code - zero) * scale``.

    Attributes:
        codes: (n,) uint8 below 2 ** bits, the weight flattened and padded to whole groups.
        scales: (n / group,) float16.
        zeros: (n / group,) uint8 where they are whole numbers, else float16.
        bits: Bits per code.
        shape: Shape of the weight.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    bits: int
    shape: tuple[int, ...]

    def decode(self) -> Tensor:
        """The weight, `shape`, fp32."""
        codes = self.codes.float().reshape(len(self.scales), -1)
        values = (codes - self.zeros.float()[:, None]) * self.scales.float()[:, None]
        return values.reshape(-1)[: math.prod(self.shape)].reshape(self.shape)


@dataclass(frozen=True)
class Shared:
    """Few shared values: ``values[code] * scales[row]``.

    Attributes:
        codes: (rows * columns,) uint8 below 2 ** bits.
        values: (2 ** bits,) float16.
        scales: (rows,) float16.
        bits: Bits per code.
        shape: Shape of the weight, (rows, columns).
    """

    codes: Tensor
    values: Tensor
    scales: Tensor
    bits: int
    shape: tuple[int, ...]

    def decode(self) -> Tensor:
        """The weight, `shape`, fp32."""
        values = self.values.float()[self.codes.long()].reshape(self.shape)
        return values * self.scales.float()[:, None]


Item = Plain | Grouped | Shared
KINDS: dict[str, type[Item]] = {"plain": Plain, "grouped": Grouped, "shared": Shared}
FIELDS = {
    "plain": ("values",),
    "grouped": ("codes", "scales", "zeros"),
    "shared": ("codes", "values", "scales"),
}


def write(
    path: Path, items: Mapping[str, Item], forms: tuple[int, ...] = (PACKED, ZSTD)
) -> dict[str, int]:
    """Write the smallest of the forms; the sizes of all in bytes, and that of the file."""
    written = {NAMES[form]: _form(items, form) for form in forms}
    path.write_bytes(min(written.values(), key=len))
    return {**{name: len(data) for name, data in written.items()}, "file": path.stat().st_size}


def read(path: Path) -> dict[str, Tensor]:
    """The weights that a file decodes to."""
    data = path.read_bytes()
    method, length = struct.unpack_from("<BI", data)
    header = json.loads(zlib.decompress(data[5 : 5 + length]))
    body = data[5 + length :]
    if method == ZSTD:
        import zstandard

        body = zstandard.decompress(body)
    weights, start = {}, 0
    for name, kind, shape, bits, fields in header:
        parts = {}
        for field, dtype, count in fields:
            width = bits if field == "codes" and method == PACKED else 8 * np.dtype(dtype).itemsize
            end = start + -(-count * width // 8)
            parts[field] = _array(body[start:end], dtype, count, width)
            start = end
        weights[name] = _item(kind, shape, bits, parts).decode()
    return weights


def pack_bits(codes: np.ndarray, bits: int) -> bytes:
    """(n,) uint8 below 2 ** bits -> ceil(n * bits / 8) bytes, low bit first."""
    planes = (codes[:, None] >> np.arange(bits, dtype=np.uint8)) & 1  # (n, bits)
    return np.packbits(planes.reshape(-1), bitorder="little").tobytes()


def unpack_bits(data: bytes, bits: int, count: int) -> np.ndarray:
    """The inverse of `pack_bits`: (count,) uint8."""
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little")
    weights = (1 << np.arange(bits)).astype(np.uint8)
    return (flat.reshape(count, bits) * weights).sum(1).astype(np.uint8)


def _form(items: Mapping[str, Item], method: int) -> bytes:
    header, body = [], []
    for name, item in items.items():
        kind = next(kind for kind, cls in KINDS.items() if isinstance(item, cls))
        bits = getattr(item, "bits", 0)
        shape = tuple(item.values.shape) if isinstance(item, Plain) else item.shape
        fields = []
        for field in FIELDS[kind]:
            array = getattr(item, field).reshape(-1).numpy()
            fields.append((field, array.dtype.str, array.size))
            packed = field == "codes" and method == PACKED
            body.append(pack_bits(array, bits) if packed else array.tobytes())
        header.append((name, kind, shape, bits, fields))
    head = zlib.compress(json.dumps(header).encode(), 9)
    payload = b"".join(body)
    payload = payload if method == PACKED else _zstd(payload)
    return struct.pack("<BI", method, len(head)) + head + payload


def _array(data: bytes, dtype: str, count: int, width: int) -> Tensor:
    if width < 8:
        return torch.from_numpy(unpack_bits(data, width, count))
    return torch.from_numpy(np.frombuffer(data, dtype, count).copy())


def _item(kind: str, shape: list[int], bits: int, parts: dict[str, Tensor]) -> Item:
    if kind == "plain":
        return Plain(parts["values"].reshape(shape))
    return KINDS[kind](**parts, bits=bits, shape=tuple(shape))


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL, threads=0).compress(data)
