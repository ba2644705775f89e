"""A matrix of integers as bytes. docs/format.md, "Coded matrices"."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lilliput.coding import classes, fitting, tables, tokens
from lilliput.coding.bits import pack_fields, varint, zigzag
from lilliput.coding.matrix_decoder import COUNTED, SHIFTED
from lilliput.coding.rans import MAX_STEPS, encode
from lilliput.errors import ContainerError

Integers = NDArray[np.int64]
LANE_BYTES = 1100  # ideal bytes per lane: the lanes' final states cost about 3 bytes each


@dataclass(frozen=True)
class _Choice:
    scales: classes.Scales
    family: fitting.FamilyChoice | None  # None: stored counts
    bits: float


def encode_matrix(codes: NDArray[np.integer]) -> bytes:
    """The coded form of a matrix; the same matrix always gives the same bytes.

    Args:
        codes: (rows, columns) integers in [-2^31, 2^31), of any integer type, any sizes.

    Raises:
        ContainerError: Not a matrix of such integers.
    """
    _check(codes)
    rows, columns = codes.shape
    if not codes.size:
        return bytes([0]) + varint(rows) + varint(columns)
    centred = fitting.centre(codes)
    return _write(centred, _choose(centred))


def code_bytes(codes: NDArray[np.integer]) -> int:
    """Exact length of ``encode_matrix(codes)`` in bytes."""
    return len(encode_matrix(codes))


def estimate_bits(codes: NDArray[np.integer]) -> float:
    """Ideal size in bits under the class model, side information included, without coding.

    Within about 1 % of ``8 * code_bytes(codes)``; fast enough to be called inside a search.

    Args:
        codes: (rows, columns) integers in [-2^31, 2^31).

    Raises:
        ContainerError: Not a matrix of such integers.
    """
    _check(codes)
    if not codes.size:
        return 24.0
    centred = fitting.centre(codes)
    row, column = classes.fit_lines(np.abs(centred.values), centred.split)
    strides = (2, 2) if min(codes.shape) > 1 else (0, 0)
    scales = classes.quantize_lines(row, column, strides)
    grid = scales.grid(codes.shape)
    low, counts = fitting.histogram(grid, centred.index, int(centred.index.max()) + 1)
    sides = fitting.vector_bits(scales.row_codes) + fitting.vector_bits(scales.column_codes)
    single = fitting.fit_family(low + _middle(counts), counts.sum(0, keepdims=True), centred.split)
    classed = fitting.fit_family(low, counts, centred.split)
    return 8 * 20 + min(classed.bits + sides, single.bits)


def _middle(counts: NDArray[np.float64]) -> int:
    return int(np.searchsorted(np.cumsum(counts.sum(1)), counts.sum() / 2))


def _check(codes: NDArray[np.integer]) -> None:
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise ContainerError(f"expected a matrix of integers, got {codes.dtype} {codes.shape}")
    if codes.size and (int(codes.min()) < -(1 << 31) or int(codes.max()) >= 1 << 31):
        raise ContainerError("codes must lie in [-2^31, 2^31)")


def _choose(centred: fitting.Centred) -> _Choice:
    """The cheapest layout and tables, compared on a sample of rows."""
    shape = centred.values.shape
    skip = max(1, centred.values.size // fitting.SAMPLE)
    skip = skip if shape[0] >= 16 * skip else 1
    index, grown = centred.index[::skip], shape[0] / len(range(0, shape[0], skip))
    signed = 2 * index - (centred.values[::skip] > 0)
    best: _Choice | None = None
    for scales in fitting.candidate_scales(centred):
        grid = scales.grid(shape)[::skip] if skip == 1 else _rows(scales, shape, skip)
        sides = fitting.vector_bits(scales.row_codes) + fitting.vector_bits(scales.column_codes)
        low, counts = fitting.histogram(grid, signed, 2 * int(index.max()) + 1)
        folded = np.concatenate([counts[:, :1], counts[:, 1::2] + counts[:, 2::2]], axis=1)
        found = fitting.fit_family(low, folded * grown, centred.split)
        raw = float((folded.sum(0) @ tokens.ranges(centred.split).bits[: folded.shape[1]]) * grown)
        counted = fitting.counted_bits(counts * grown) + raw
        for choice in (
            _Choice(scales, found, found.bits + sides + 24),
            _Choice(scales, None, counted + sides),
        ):
            if best is None or choice.bits < best.bits:
                best = choice
    assert best is not None
    return best


def _rows(scales: classes.Scales, shape: tuple[int, int], skip: int) -> NDArray[np.uint8]:
    part = classes.Scales(
        scales.base, scales.strides, scales.row_codes[::skip], scales.column_codes
    )
    return part.grid((len(range(0, shape[0], skip)), shape[1]))


def _write(centred: fitting.Centred, choice: _Choice) -> bytes:
    rows, columns = centred.values.shape
    scales, split = choice.scales, centred.split
    if choice.family is not None:
        base = min(max(scales.base + choice.family.shift, 0), classes.family.SCALES - 1)
        scales = classes.Scales(base, scales.strides, scales.row_codes, scales.column_codes)
    grid = scales.grid((rows, columns)).reshape(-1)
    values = centred.values.reshape(-1)
    symbols = (2 * centred.index.reshape(-1) - (values > 0)).astype(np.uint8)
    escape = 2 * int(centred.index.max()) + 1
    low, counts = fitting.histogram(grid, symbols, escape)
    used = np.flatnonzero(counts.sum(1))
    number = np.zeros(256, np.uint8)
    number[used + low] = np.arange(len(used))
    out = bytearray(_header(centred, scales, counted=choice.family is None))
    out += bytes([split, escape, scales.base])
    if choice.family is not None:
        shape, zero = choice.family.shape, choice.family.zero
        table = classes.family.frequencies(used + low, shape, zero, split=split, escape=escape)
        out += bytes([shape, zero])
    else:
        table = tables.counted_tables(counts[used])
        out += tables.write_tables(table)
    owner = number[grid]
    unreachable = table[owner, symbols] == 0 if np.any(table == 0) else np.zeros(1, np.bool_)
    if unreachable.any():
        symbols = np.where(unreachable, escape, symbols).astype(np.uint8)
    raw = pack_fields(*tokens.raw_fields(values, symbols, split, escape))
    padded = np.concatenate([counts[used], np.zeros((len(used), 1))], axis=1)
    ideal = tables.table_bits(padded, table) / 8
    lanes = max(1, round(ideal / LANE_BYTES), -(-len(values) // MAX_STEPS))
    states, words = encode(symbols, owner, table, lanes=lanes)
    out += varint(lanes) + varint(len(raw)) + raw
    return bytes(out) + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


def _header(centred: fitting.Centred, scales: classes.Scales, *, counted: bool) -> bytes:
    strides = [classes.STRIDES.index(stride) for stride in scales.strides]
    flags = strides[0] + 5 * strides[1] + COUNTED * counted + SHIFTED * (centred.offset != 0)
    out = bytearray([flags]) + varint(centred.values.shape[0]) + varint(centred.values.shape[1])
    if centred.offset:
        out += varint(zigzag(centred.offset))
    for codes, stride in zip((scales.row_codes, scales.column_codes), scales.strides, strict=True):
        if stride:
            vector = encode_matrix(codes[None, :])
            out += varint(len(vector)) + vector
    return bytes(out)
