"""Bytes back to a matrix of integers. docs/format.md, "Coded matrices". No floating point."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lilliput.coding import classes, family, tables, tokens
from lilliput.coding.bits import Reader, unpack_fields
from lilliput.coding.rans import MAX_STEPS, Coded, Model, decode
from lilliput.errors import ContainerError

Integers = NDArray[np.int64]
Type = np.dtype[Any]
COUNTED, SHIFTED = 32, 64  # flags: stored counts; an offset follows
LARGEST_OFFSET = 1 << 32
CHUNK = 1 << 20  # codes turned from symbols to values at a time


@dataclass(frozen=True)
class _Outline:
    """A coded matrix, parsed as far as its row and column codes."""

    flags: int
    shape: tuple[int, int]
    offset: int
    sides: tuple["_Outline", ...]
    reader: Reader

    @property
    def count(self) -> int:
        """Number of codes."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class _Body:
    """A coded matrix, parsed whole; without a model all its codes are its offset."""

    outline: _Outline
    split: int
    escape: int
    raw: bytes = b""
    model: Model | None = None
    coded: Coded | None = None


def decode_matrix(data: bytes, *, max_codes: int = 1 << 28) -> Integers:
    """The matrix that `encode_matrix` was given, (rows, columns) int64.

    Args:
        data: What `encode_matrix` returned; may be hostile.
        max_codes: Refuse a matrix of more codes, before anything of its size is allocated.

    Raises:
        ContainerError: The data are damaged or declare more than `max_codes` codes.
    """
    outline = _outline(Reader(data))
    if outline.count > max_codes:
        raise ContainerError(f"a coded tensor declares more than {max_codes} codes")
    return _decode([outline], [np.dtype(np.int64)])[0].astype(np.int64, copy=False)


def decode_matrices(
    data: Sequence[bytes], *, counts: Sequence[int], types: Sequence[Type]
) -> list[NDArray[np.integer]]:
    """Several matrices at once, in lock-step: much faster than one by one.

    Args:
        data: Coded matrices; may be hostile.
        counts: How many codes each must have.
        types: Integer type of each result.

    Raises:
        ContainerError: The data are damaged, a matrix is of another size, or a code does not fit.
    """
    outlines = [_outline(Reader(item)) for item in data]
    for outline, count in zip(outlines, counts, strict=True):
        if outline.count != count:
            raise ContainerError(f"a coded tensor holds {outline.count} codes, expected {count}")
    return _decode(outlines, types)


def _decode(outlines: Sequence[_Outline], types: Sequence[Type]) -> list[NDArray[np.integer]]:
    sides = [side for item in outlines for side in item.sides]
    bodies = [_body(side, []) for side in sides]
    vectors = iter(_decode_bodies(bodies, [np.dtype(np.uint8)] * len(sides)))
    bodies = []
    for item in outlines:
        codes = [next(vectors).reshape(-1).astype(np.uint8) for _ in item.sides]
        bodies.append(_body(item, codes))
    return _decode_bodies(bodies, types)


def _outline(reader: Reader, side: int | None = None) -> _Outline:
    flags = reader.byte()
    shape = (reader.varint(), reader.varint())
    if side is not None and (flags % 32 or shape != (1, side)):
        raise ContainerError("a coded tensor is damaged: row or column codes of a wrong shape")
    if flags % 32 > 24 or flags > 127:
        raise ContainerError("a coded tensor is damaged: unknown flags")
    offset = reader.signed(LARGEST_OFFSET) if flags & SHIFTED else 0
    sides = []
    if shape[0] * shape[1]:
        for length, stride in zip(shape, (flags % 32 % 5, flags % 32 // 5), strict=True):
            if stride:
                sides.append(_outline(Reader(reader.take(reader.varint())), length))
    return _Outline(flags, shape, offset, tuple(sides), reader)


def _body(outline: _Outline, sides: list[NDArray[np.uint8]]) -> _Body:
    reader, count = outline.reader, outline.count
    if not count:
        return _Body(outline, 1, 0)
    split, escape = reader.byte(), reader.byte()
    if not 1 <= split <= tokens.LARGEST_SPLIT:
        raise ContainerError("a coded tensor is damaged: a parameter is out of range")
    if escape > 2 * len(tokens.ranges(split).first) - 1:
        raise ContainerError("a coded tensor is damaged: too many tokens")
    if not escape:
        return _Body(outline, split, 0)
    owner, table = _read_owner(outline, sides, split=split, escape=escape)
    lanes, size = reader.varint(), reader.varint()
    if not 1 <= lanes <= count or -(-count // lanes) > MAX_STEPS:
        raise ContainerError("a coded tensor is damaged: a bad number of lanes")
    raw = reader.take(size)
    states = np.frombuffer(reader.take(4 * lanes), "<u4").astype(np.uint32)
    rest = reader.rest()
    if len(rest) % 2:
        raise ContainerError("a coded tensor is damaged: half a word at its end")
    words = np.frombuffer(rest, "<u2").astype(np.uint16)
    return _Body(outline, split, escape, raw, Model(table, owner, lanes), Coded(states, words))


def _read_owner(
    outline: _Outline, sides: list[NDArray[np.uint8]], *, split: int, escape: int
) -> tuple[classes.TableGrid, Integers]:
    """The table of every code, and the tables."""
    flags, reader = outline.flags, outline.reader
    base = reader.byte()
    if base >= family.SCALES:
        raise ContainerError("a coded tensor is damaged: a parameter is out of range")
    strides = (classes.STRIDES[flags % 32 % 5], classes.STRIDES[flags % 32 // 5])
    given, none = iter(sides), np.zeros(0, np.uint8)
    codes = [next(given) if stride else none for stride in strides]
    grid = classes.TableGrid(classes.Scales(base, strides, codes[0], codes[1]), outline.shape)
    if flags & COUNTED:
        return grid, tables.read_tables(reader, len(grid.used), escape)
    shape, zero = reader.byte(), reader.byte()
    if shape not in family.SHAPES:
        raise ContainerError("a coded tensor is damaged: a parameter is out of range")
    return grid, family.frequencies(grid.used, shape, zero, split=split, escape=escape)


def _decode_bodies(bodies: Sequence[_Body], types: Sequence[Type]) -> list[NDArray[np.integer]]:
    models = [body.model for body in bodies if body.model is not None]
    symbols = iter(decode(models, [body.coded for body in bodies if body.coded is not None]))
    return [
        _constant(body, kind) if body.model is None else _values(body, next(symbols), kind)
        for body, kind in zip(bodies, types, strict=True)
    ]


def _constant(body: _Body, kind: Type) -> NDArray[np.integer]:
    if len(body.outline.reader.rest()):
        raise ContainerError("a coded tensor is damaged: something follows its end")
    if not np.iinfo(kind).min <= body.outline.offset <= np.iinfo(kind).max:
        raise ContainerError(f"a coded tensor is damaged: a code does not fit {kind.name}")
    return np.full(body.outline.shape, body.outline.offset, kind)


def _values(body: _Body, symbols: NDArray[np.uint8], kind: Type) -> NDArray[np.integer]:
    widths = tokens.raw_widths(body.split, body.escape)[symbols]
    places = np.flatnonzero(widths)
    widths = widths[places]
    if (int(widths.sum()) + 7) // 8 != len(body.raw):
        raise ContainerError("a coded tensor is damaged: a wrong number of raw bits")
    fields = unpack_fields(body.raw, widths)
    limits = np.iinfo(kind)
    result = np.empty(len(symbols), kind)
    for start in range(0, len(symbols), CHUNK):
        part = symbols[start : start + CHUNK]
        near = slice(*np.searchsorted(places, [start, start + len(part)]))
        values = tokens.values_of(
            part, body.split, body.escape, places=places[near] - start, fields=fields[near]
        )
        values += body.outline.offset
        if values.min() < limits.min or values.max() > limits.max:
            raise ContainerError(f"a coded tensor is damaged: a code does not fit {kind.name}")
        result[start : start + CHUNK] = values
    return result.reshape(body.outline.shape)
