"""Frequency tables of a coded matrix: from the family, or as stored counts."""

import numpy as np
from numpy.typing import NDArray

from lilliput.coding.bits import Reader, varint
from lilliput.coding.rans import TOTAL
from lilliput.errors import ContainerError

Integers = NDArray[np.int64]


def counted_tables(counts: NDArray[np.float64]) -> Integers:
    """Frequencies in proportion to counts (tables, tokens) -> (tables, tokens + 1).

    Every token that occurs gets at least 1, the escape (the last column) exactly 1.
    """
    return np.stack([_normalise(row) for row in counts])


def _normalise(counts: NDArray[np.float64]) -> Integers:
    share = counts * ((TOTAL - 1) / max(counts.sum(), 1.0))
    found = np.where(counts > 0, np.maximum(np.floor(share + 0.5), 1), 0).astype(np.int64)
    if not found.any():
        found[0] = TOTAL - 1
    while (excess := int(found.sum()) - (TOTAL - 1)) != 0:
        largest = int(np.argmax(found))
        found[largest] -= min(excess, found[largest] - 1) if excess > 0 else excess
    return np.append(found, 1)


def write_tables(tables: Integers) -> bytes:
    """Per table the number of tokens, then their frequencies; the escape has the rest."""
    out = bytearray()
    for table in tables:
        used = np.flatnonzero(table[:-1])
        size = int(used[-1]) + 1 if len(used) else 0
        out += varint(size)
        for frequency in table[:size]:
            out += varint(int(frequency))
    return bytes(out)


def read_tables(reader: Reader, number: int, escape: int) -> Integers:
    """The inverse of `write_tables`: (number, escape + 1).

    Raises:
        ContainerError: A table has too many tokens or does not leave room for the escape.
    """
    tables = np.zeros((number, escape + 1), np.int64)
    for table in tables:
        size = reader.varint(escape + 1)
        for token in range(size):
            table[token] = reader.varint(TOTAL)
        table[escape] = TOTAL - int(table.sum())
        if table[escape] < 1:
            raise ContainerError(
                "a coded tensor is damaged: a frequency table does not sum to 4096"
            )
    return tables


def table_bits(counts: NDArray[np.float64], tables: Integers) -> float:
    """Ideal bits of tokens, counts (tables, tokens), where a token without frequency escapes."""
    reachable = np.where(tables > 0, tables, tables[:, -1:])[:, :-1]
    return float((counts * (np.log2(TOTAL) - np.log2(reachable))).sum())
