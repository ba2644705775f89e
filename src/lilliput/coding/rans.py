"""Interleaved range asymmetric numeral systems with static integer tables.

Duda, "Asymmetric numeral systems" (arXiv:1311.2540); Giesen, "Interleaved entropy coders"
(arXiv:1402.3392). Frequencies sum to 2^12, states are 32 bits, renormalisation moves 16-bit words.
Symbol i of a stream belongs to lane ``i % lanes``; all lanes share one sequence of words. The
lanes of many streams advance together, so that plain numpy decodes tens of millions of symbols a
second. Integer arithmetic only. docs/format.md, "Symbol streams", describes the bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lilliput.errors import ContainerError

PRECISION = 12
TOTAL = 1 << PRECISION
LOWER = 1 << 16  # smallest state between symbols; also the encoder's first state
WORD = 16
MAX_STEPS = 1 << 16  # symbols per lane, at most: bounds the work of a hostile stream
CHUNK = 64  # steps prepared at a time

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SymbolStream:
    """One entropy-coded sequence of symbols.

    Attributes:
        count: Number of symbols.
        states: First state of each lane as the decoder reads it, (lanes,) uint32.
        words: 16-bit words in reading order, uint16.
        frequencies: One row per table, summing to 2^12: (tables, symbols) int64.
        tables: Which row of `frequencies` each symbol uses: (count,) uint8.
    """

    count: int
    states: NDArray[np.uint32]
    words: NDArray[np.uint16]
    frequencies: Integers
    tables: NDArray[np.uint8]

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self.states)

    @property
    def steps(self) -> int:
        """Symbols of the longest lane."""
        return -(-self.count // self.lanes) if self.count else 0


def encode(
    symbols: NDArray[np.uint8],
    tables: NDArray[np.uint8],
    frequencies: Integers,
    *,
    lanes: int,
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """The (lanes,) states and the words that `decode` turns back into `symbols`.

    Args:
        symbols: (count,) symbols, each with a frequency above zero in its table.
        tables: (count,) row of `frequencies` per symbol.
        frequencies: (tables, symbols) int64, rows summing to 2^12.
        lanes: Number of interleaved states, at least 1.
    """
    width = frequencies.shape[1]
    starts = np.cumsum(frequencies, axis=1) - frequencies
    flat_frequency = np.append(frequencies.reshape(-1), TOTAL)  # the last entry changes nothing
    flat_start = np.append(starts.reshape(-1), 0)
    count, steps = len(symbols), -(-len(symbols) // lanes)
    state = np.full(lanes, LOWER, np.int64)
    words = np.empty(count + lanes, np.uint16)
    position = len(words)
    for first in range((steps - 1) // CHUNK * CHUNK, -1, -CHUNK):
        rows = slice(first * lanes, min(first + CHUNK, steps) * lanes)
        index = tables[rows].astype(np.int64) * width + symbols[rows]
        index = np.append(index, np.full(-len(index) % lanes, len(flat_start) - 1)).reshape(
            -1, lanes
        )
        frequency, start = flat_frequency[index], flat_start[index]
        limit = frequency << (2 * WORD - PRECISION)
        for step in range(len(index) - 1, -1, -1):
            full = np.flatnonzero(state >= limit[step])
            position -= len(full)
            words[position : position + len(full)] = state[full] & 0xFFFF
            state[full] >>= WORD
            quotient = state // frequency[step]
            state += quotient * (TOTAL - frequency[step]) + start[step]
    return state.astype(np.uint32), words[position:]


def lookup_table(frequencies: Integers) -> Integers:
    """(tables, symbols) frequencies -> (tables * 2^12,) packed entries, one per slot.

    An entry is ``symbol << 24 | (slot - start) << 12 | (frequency - 1)``.
    """
    flat = frequencies.reshape(-1)
    symbols = np.tile(np.arange(frequencies.shape[1]), len(frequencies))
    starts = (np.cumsum(frequencies, axis=1) - frequencies).reshape(-1)
    entry = (symbols << 2 * PRECISION) - (starts << PRECISION) + flat - 1
    slots = np.tile(np.arange(TOTAL, dtype=np.int64), len(frequencies))
    return np.repeat(entry, flat) + (slots << PRECISION)


class _Lockstep:
    """The lanes of several streams, longest streams first, advancing together."""

    def __init__(self, streams: Sequence[SymbolStream]) -> None:
        self.streams = streams
        self.lane_ends = np.cumsum([stream.lanes for stream in streams])
        self.state = np.concatenate([s.states for s in streams]).astype(np.int64)
        self.word_ends = np.cumsum([len(stream.words) for stream in streams])
        self.words = np.concatenate([*(s.words for s in streams), np.zeros(1, np.uint16)])
        self.pointers = np.append(0, self.word_ends[:-1])
        tables = [np.array([[TOTAL]])]  # table 0 changes nothing: it pads the last step
        self.table_starts = []
        total = 1
        for stream in streams:
            self.table_starts.append(total)
            total += len(stream.frequencies)
            tables.append(stream.frequencies)
        self.lookup = np.concatenate([lookup_table(table) for table in tables])
        self.symbols = [np.empty(stream.count, np.uint8) for stream in streams]

    def bases(self, first: int, stop: int, alive: int) -> Integers:
        """Offset into `lookup` of each symbol of a chunk: (steps, lanes of `alive` streams)."""
        bases = np.zeros((stop - first, int(self.lane_ends[alive - 1])), np.int64)
        for stream, end, start in zip(
            self.streams[:alive], self.lane_ends, self.table_starts, strict=False
        ):
            tables = stream.tables[first * stream.lanes : stop * stream.lanes]
            whole, rest = divmod(len(tables), stream.lanes)
            part = bases[:, end - stream.lanes : end]
            part[:whole] = tables[: whole * stream.lanes].reshape(whole, stream.lanes)
            part[:whole] += start
            if rest:
                part[whole, :rest] = tables[whole * stream.lanes :]
                part[whole, :rest] += start
        bases <<= PRECISION
        return bases

    def advance(self, bases: Integers, alive: int) -> Integers:
        """Decode one chunk: (steps, lanes) offsets -> (steps, lanes) lookup entries."""
        steps, lanes = bases.shape
        state, ends = self.state[:lanes], self.lane_ends[:alive]
        entries = np.empty_like(bases)
        scratch = np.empty(lanes, np.int64)
        low = np.empty(lanes, np.bool_)
        order = np.arange(lanes)
        counts = np.zeros(alive + 1, np.int64)
        for step in range(steps):
            entry = entries[step]
            np.bitwise_and(state, TOTAL - 1, out=scratch)
            np.add(scratch, bases[step], out=scratch)
            np.take(self.lookup, scratch, out=entry, mode="clip")
            np.right_shift(state, PRECISION, out=state)
            np.bitwise_and(entry, TOTAL - 1, out=scratch)
            np.add(scratch, 1, out=scratch)
            np.multiply(state, scratch, out=state)
            np.right_shift(entry, PRECISION, out=scratch)
            np.bitwise_and(scratch, TOTAL - 1, out=scratch)
            np.add(state, scratch, out=state)
            np.less(state, LOWER, out=low)
            refill = np.flatnonzero(low)
            counts[1:] = np.searchsorted(refill, ends)
            taken = np.diff(counts)
            place = np.repeat(self.pointers[:alive] - counts[:-1], taken) + order[: len(refill)]
            state[refill] = state[refill] << WORD | np.take(self.words, place, mode="clip")
            self.pointers[:alive] += taken
        return entries

    def keep(self, entries: Integers, first: int, alive: int) -> None:
        """Store the symbols of a chunk of lookup entries."""
        symbols = (entries >> 2 * PRECISION).astype(np.uint8)
        for index in range(alive):
            stream, end = self.streams[index], self.lane_ends[index]
            out = self.symbols[index][first * stream.lanes : (first + len(entries)) * stream.lanes]
            out[:] = symbols[:, end - stream.lanes : end].reshape(-1)[: len(out)]

    def run(self) -> list[NDArray[np.uint8]]:
        """Decode everything and check that every stream ended where its encoder began."""
        steps = np.array([stream.steps for stream in self.streams])
        for first in range(0, int(steps[0]), CHUNK):
            alive = int(np.count_nonzero(steps > first))
            stop = min(first + CHUNK, int(steps[0]))
            self.keep(self.advance(self.bases(first, stop, alive), alive), first, alive)
        if np.any(self.pointers != self.word_ends) or np.any(self.state != LOWER):
            raise ContainerError(
                "a coded tensor is damaged: its stream does not end where it began"
            )
        return self.symbols


def decode(streams: Sequence[SymbolStream]) -> list[NDArray[np.uint8]]:
    """The symbols of every stream, (count,) uint8 each; all lanes advance together.

    Raises:
        ContainerError: A stream does not end in the encoder's first state with all words read.
    """
    if not streams:
        return []
    order = sorted(range(len(streams)), key=lambda index: -streams[index].steps)
    decoded = _Lockstep([streams[index] for index in order]).run()
    result: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(streams)
    for index, symbols in zip(order, decoded, strict=True):
        result[index] = symbols
    return result
