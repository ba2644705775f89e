"""A matrix of integers as bytes. docs/format.md, "Coded matrices"."""

import numpy as np
from numpy.typing import NDArray

from lilliput.coding import classes, family, tables, tokens
from lilliput.coding.bits import pack_fields, varint, zigzag
from lilliput.coding.centring import Centred, centre
from lilliput.coding.drafts import Draft, Symbols, finish
from lilliput.coding.fitting import histogram
from lilliput.coding.layouts import Layout, choose
from lilliput.coding.matrix_decoder import COUNTED, SHIFTED
from lilliput.coding.rans import Model
from lilliput.errors import ContainerError

LANE_BYTES = 2048  # ideal bytes per lane: a lane's final state costs about 3
LANE_CODES = 1 << 14  # codes per lane, at most


def encode_matrix(codes: NDArray[np.integer]) -> bytes:
    """The coded form of a matrix; the same matrix always gives the same bytes.

    Args:
        codes: (rows, columns) integers in [-2^31, 2^31), of any integer type, any sizes.

    Raises:
        ContainerError: Not a matrix of such integers.
    """
    return finish([draft_matrix(codes)])[0]


def code_bytes(codes: NDArray[np.integer]) -> int:
    """Exact length of ``encode_matrix(codes)`` in bytes."""
    return len(encode_matrix(codes))


def draft_matrix(codes: NDArray[np.integer]) -> Draft:
    """As `encode_matrix`, but its symbols wait to be coded together with those of others."""
    check(codes)
    rows, columns = codes.shape
    if not codes.size:
        return Draft((bytes([0]) + varint(rows) + varint(columns),))
    centred = centre(codes)
    if not centred.index.any():
        return Draft((_header(centred, 0), bytes([centred.split, 0])))
    return _draft(centred, choose(centred))


def check(codes: NDArray[np.integer]) -> None:
    """Refuse what is no matrix of integers in [-2^31, 2^31).

    Raises:
        ContainerError: With what it is instead.
    """
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise ContainerError(f"expected a matrix of integers, got {codes.dtype} {codes.shape}")
    if codes.size and (int(codes.min()) < -(1 << 31) or int(codes.max()) >= 1 << 31):
        raise ContainerError("codes must lie in [-2^31, 2^31)")


def _header(centred: Centred, flags: int) -> bytes:
    rows, columns = centred.values.shape
    if not centred.offset:
        return bytes([flags]) + varint(rows) + varint(columns)
    flags |= SHIFTED
    return bytes([flags]) + varint(rows) + varint(columns) + varint(zigzag(centred.offset))


def _sides(scales: classes.Scales) -> list[Draft]:
    """Row and column codes, each as a matrix of one row."""
    return [
        Draft((draft_matrix(codes[None, :]),), prefixed=True)
        for codes, stride in zip(
            (scales.row_codes, scales.column_codes), scales.strides, strict=True
        )
        if stride
    ]


def _draft(centred: Centred, layout: Layout) -> Draft:
    scales, split = layout.scales, centred.split
    strides = [classes.STRIDES.index(stride) for stride in scales.strides]
    flags = strides[0] + 5 * strides[1] + COUNTED * (layout.family is None)
    grid = scales.grid(centred.values.shape).reshape(-1)
    symbols = tokens.of_index(centred.index, centred.values).reshape(-1)
    escape = 2 * int(centred.index.max()) + 1
    low, counts = histogram(grid, symbols, escape)
    used = np.flatnonzero(counts.sum(1))
    if layout.family is None:
        table = tables.counted_tables(counts[used])
        stored = tables.write_tables(table)
    else:
        shape, zero = layout.family.shape, layout.family.zero
        table = family.frequencies(used + low, shape, zero, split=split, escape=escape)
        stored = bytes([shape, zero])
    number = np.zeros(256, np.uint8)
    number[used + low] = np.arange(len(used))
    owner = number[grid]
    if np.any((counts[used] > 0) & (table[:, :-1] == 0)):
        symbols = np.where(table[owner, symbols] > 0, symbols, escape).astype(np.uint8)
    raw = pack_fields(*tokens.raw_fields(centred.values.reshape(-1), symbols, split, escape))
    ideal = tables.table_bits(counts[used], table) / 8
    lanes = max(1, round(ideal / LANE_BYTES), -(-len(owner) // LANE_CODES))
    return Draft(
        (
            _header(centred, flags),
            *_sides(scales),
            bytes([split, escape, scales.base]) + stored,
            varint(lanes) + varint(len(raw)) + raw,
            Symbols(Model(table, owner, lanes), symbols, ideal),
        )
    )
