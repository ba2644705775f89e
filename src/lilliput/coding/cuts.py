"""Which bytes of an ONNX model's files are tensors, and how each is coded."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from lilliput.coding.drafts import Draft
from lilliput.coding.names import check_name
from lilliput.coding.payload import draft_bytes, draft_parts, draft_tensor
from lilliput.coding.protobuf import TensorBytes
from lilliput.errors import ContainerError

SMALLEST = 64  # bytes; shorter tensors stay in the skeleton
NIBBLES = 0  # item size of types that put two elements into a byte

# ONNX's element types: how their bytes are looked at. bfloat16 and float8 only borrow a type of
# the same size: coding is lossless.
ELEMENTS = {
    1: "<f4",
    2: "|u1",
    3: "|i1",
    4: "<u2",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "|u1",
    10: "<f2",
    11: "<f8",
    12: "<u4",
    13: "<u8",
    14: "<f4",
    15: "<f8",
    16: "<f2",
    17: "|u1",
    18: "|u1",
    19: "|u1",
    20: "|u1",
}
UINT8 = 2
PACKED = {21, 22, 23}  # uint4, int4, float4


@dataclass(frozen=True)
class Cut:
    """A tensor's bytes in a file: [start, stop), and how to look at them."""

    name: str
    start: int
    stop: int
    data_type: int
    dims: tuple[int, ...]

    def draft(self, data: bytes) -> Draft:
        """The stream of the cut's bytes."""
        rows = self.dims[0] if len(self.dims) > 1 else 1
        if self.data_type in PACKED and len(data) == (prod(self.dims) + 1) // 2:
            return draft_parts(data, rows if len(data) % max(rows, 1) == 0 else 1, width=4)
        kind = np.dtype(ELEMENTS.get(self.data_type, "|u1"))
        if self.data_type not in ELEMENTS or len(data) % kind.itemsize:
            return draft_bytes(data)
        dims = self.dims if prod(self.dims) * kind.itemsize == len(data) else ()
        coded = draft_tensor(data, kind, dims)
        if self.data_type == UINT8 and len(dims) > 1:  # maybe packed weights or their zeros
            parts = [draft_parts(data, dims[0], width=width) for width in (4, 2)]
            coded = min(coded, *parts, key=lambda draft: draft.size)
        return coded


def inside(tensors: Sequence[TensorBytes]) -> list[Cut]:
    """The cuts of the ONNX file itself, in file order."""
    cuts = [
        Cut(tensor.name, *tensor.span, tensor.data_type, tensor.dims)
        for tensor in tensors
        if tensor.span is not None
    ]
    return apart(cuts)


def outside(tensors: Sequence[TensorBytes], folder: Path) -> dict[str, list[Cut]]:
    """The cuts of every external data file, by its name relative to `folder`.

    Raises:
        ContainerError: A file is missing, shorter than its tensors, or outside the folder.
    """
    found: dict[str, list[Cut]] = {}
    for tensor in tensors:
        if not tensor.external:
            continue
        name = tensor.external.get("location", "").removeprefix("./")
        size = _size_of(folder, name)
        start = _number(tensor.external.get("offset", "0"))
        stop = start + _number(tensor.external.get("length", str(size - start)))
        if stop > size or start > stop:
            raise ContainerError(f"external data of tensor {tensor.name[:80]!r} is cut short")
        cut = Cut(tensor.name, start, stop, tensor.data_type, tensor.dims)
        found.setdefault(name, []).append(cut)
    return {name: apart(cuts) for name, cuts in sorted(found.items())}


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ContainerError(f"external data with a bad offset or length: {text[:40]!r}")
    return int(text)


def _size_of(folder: Path, name: str) -> int:
    check_name(name)
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ContainerError(f"external data outside the model's folder: {name[:80]!r}")
    if not path.is_file():
        raise ContainerError(f"external data that is not there: {name[:80]!r}")
    return path.stat().st_size


def apart(cuts: Sequence[Cut]) -> list[Cut]:
    """Cuts worth making, in file order, without those that overlap an earlier one."""
    result: list[Cut] = []
    for cut in sorted(cuts, key=lambda cut: (cut.start, -cut.stop)):
        if cut.stop - cut.start >= SMALLEST and (not result or cut.start >= result[-1].stop):
            result.append(cut)
    return result
