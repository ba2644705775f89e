"""Interleaved range asymmetric numeral systems with static integer tables.

Duda, "Asymmetric numeral systems" (arXiv:1311.2540); Giesen, "Interleaved entropy coders"
(arXiv:1402.3392). Frequencies sum to 2^12, states are 32 bits, renormalisation moves 16-bit words.
Symbol i of a stream belongs to lane ``i % lanes``; all lanes share one sequence of words. The
lanes of many streams advance together, so that plain numpy codes ten million symbols and more a
second. Integer arithmetic only. docs/format.md, "Symbol streams", describes the bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Owner(Protocol):
    """The tables of a sequence of symbols, made when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]:
        """The tables of some symbols."""
        ...


@dataclass(frozen=True)
class Model:
    """What coder and decoder agree on about one sequence of symbols.

    Attributes:
        frequencies: One row per table, summing to 2^12: (tables, symbols) int64.
        owner: Which row of `frequencies` each symbol uses: (count,) uint8, or what slices to it.
        lanes: Number of interleaved states, in [1, count].
    """

    frequencies: Integers
    owner: "NDArray[np.uint8] | Owner"
    lanes: int

    @property
    def count(self) -> int:
        """Number of symbols."""
        return len(self.owner)

    @property
    def steps(self) -> int:
        """Symbols of the longest lane."""
        return -(-self.count // self.lanes)


@dataclass(frozen=True)
class Coded:
    """One entropy-coded sequence.

    Attributes:
        states: First state of each lane as the decoder reads it, (lanes,) uint32.
        words: 16-bit words in reading order, uint16.
    """

    states: NDArray[np.uint32]
    words: NDArray[np.uint16]


class _Lanes:
    """The lanes of several streams side by side, longest streams first."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = models
        self.ends = np.cumsum([model.lanes for model in models])
        self.steps = np.array([model.steps for model in models])
        self.first_table = np.cumsum([0, *(len(model.frequencies) for model in models)])
        self.padding = int(self.first_table[-1])  # the last table changes nothing
        self.scratch = np.arange(int(self.ends[-1]))

    def alive(self, step: int) -> int:
        """How many streams, from the first, reach a step."""
        return int(np.count_nonzero(self.steps > step))

    def part(self, lanes: NDArray[np.integer], index: int) -> NDArray[np.integer]:
        """The columns of one stream in a (steps, lanes) array."""
        end = int(self.ends[index])
        return lanes[:, end - self.models[index].lanes : end]

    def chunk(self, first: int, sources: Sequence[Owner], padding: int) -> Integers:
        """A chunk of per-symbol numbers side by side, filled up: (steps, lanes of the living)."""
        alive, stop = self.alive(first), min(first + CHUNK, int(self.steps[0]))
        out = np.full((stop - first, int(self.ends[alive - 1])), padding, np.int64)
        for index, model in enumerate(self.models[:alive]):
            numbers = sources[index][first * model.lanes : stop * model.lanes]
            whole, rest = divmod(len(numbers), model.lanes)
            part = self.part(out, index)
            part[:whole] = numbers[: whole * model.lanes].reshape(whole, model.lanes)
            if rest:
                part[whole, :rest] = numbers[whole * model.lanes :]
        return out

    def tables(self, first: int) -> Integers:
        """Number of the table of each symbol of a chunk, over all streams."""
        out = self.chunk(first, [model.owner for model in self.models], -1)
        for index in range(self.alive(first)):
            part = self.part(out, index)
            np.add(part, self.first_table[index], out=part, where=part >= 0)
        out[out < 0] = self.padding
        return out

    def stacked(self) -> Integers:
        """All tables, (tables + 1, widest), filled up with zeros; the last one is certain."""
        widest = max(model.frequencies.shape[1] for model in self.models)
        out = np.zeros((self.padding + 1, widest), np.int64)
        for model, first in zip(self.models, self.first_table, strict=False):
            out[first : first + len(model.frequencies), : model.frequencies.shape[1]] = (
                model.frequencies
            )
        out[-1, 0] = TOTAL
        return out


def encode(models: Sequence[Model], symbols: Sequence[NDArray[np.uint8]]) -> list[Coded]:
    """Code several sequences, their lanes advancing together.

    Args:
        models: One per sequence.
        symbols: (count,) each; every symbol has a frequency above zero in its table.
    """
    if not models:
        return []
    order = sorted(range(len(models)), key=lambda index: -models[index].steps)
    coded = _Encoder([models[i] for i in order]).run([symbols[i] for i in order])
    return [item for _, item in sorted(zip(order, coded, strict=True), key=lambda pair: pair[0])]


class _Encoder:
    def __init__(self, models: Sequence[Model]) -> None:
        self.lanes = _Lanes(models)
        self.state = np.full(int(self.lanes.ends[-1]), LOWER, np.int64)
        self.limits = np.cumsum([model.count + model.lanes for model in models])
        self.words = np.empty(int(self.limits[-1]), np.uint16)
        self.pointers = self.limits.copy()

    def run(self, symbols: Sequence[NDArray[np.uint8]]) -> list[Coded]:
        lanes = self.lanes
        frequencies = lanes.stacked()
        starts = np.cumsum(frequencies, axis=1) - frequencies
        for first in range((int(lanes.steps[0]) - 1) // CHUNK * CHUNK, -1, -CHUNK):
            index = lanes.tables(first) * frequencies.shape[1] + lanes.chunk(first, symbols, 0)
            frequency = frequencies.reshape(-1).take(index)
            self.advance(frequency, starts.reshape(-1).take(index), lanes.alive(first))
        result, begin = [], 0
        for end, limit, pointer in zip(lanes.ends, self.limits, self.pointers, strict=True):
            states = self.state[begin:end].astype(np.uint32)
            result.append(Coded(states, self.words[pointer:limit].copy()))
            begin = end
        return result

    def advance(self, frequency: Integers, start: Integers, alive: int) -> None:
        """Code one chunk, last step first: (steps, lanes) frequencies and starts."""
        state, ends = self.state[: frequency.shape[1]], self.lanes.ends[:alive]
        order, pointers = self.lanes.scratch, self.pointers[:alive]
        limit = frequency << (2 * WORD - PRECISION)
        rest = TOTAL - frequency
        for step in range(len(frequency) - 1, -1, -1):
            full = (state >= limit[step]).nonzero()[0]
            counts = full.searchsorted(ends)
            taken = counts.copy()
            taken[1:] -= counts[:-1]
            pointers -= taken
            place = np.repeat(pointers - counts + taken, taken)
            place += order[: len(full)]
            overflowing = state[full]
            self.words[place] = overflowing & 0xFFFF
            state[full] = overflowing >> WORD
            quotient = state // frequency[step]
            quotient *= rest[step]
            quotient += start[step]
            state += quotient


def decode(models: Sequence[Model], coded: Sequence[Coded]) -> list[NDArray[np.uint8]]:
    """The symbols of several sequences, (count,) uint8 each; their lanes advance together.

    Raises:
        ContainerError: A stream does not end in the encoder's first state with all words read.
    """
    if not models:
        return []
    order = sorted(range(len(models)), key=lambda index: -models[index].steps)
    decoder = _Decoder([models[i] for i in order], [coded[i] for i in order])
    symbols = zip(order, decoder.run(), strict=True)
    return [item for _, item in sorted(symbols, key=lambda pair: pair[0])]


class _Decoder:
    def __init__(self, models: Sequence[Model], coded: Sequence[Coded]) -> None:
        self.lanes = _Lanes(models)
        self.state = np.concatenate([item.states for item in coded]).astype(np.int64)
        self.limits = np.cumsum([len(item.words) for item in coded])
        self.words = np.concatenate([*(item.words for item in coded), np.zeros(1, np.uint16)])
        self.words = self.words.astype(np.int64)
        self.pointers = np.append(0, self.limits[:-1])
        self.lookup = lookup_table(self.lanes.stacked())
        self.symbols = [np.empty(model.count, np.uint8) for model in models]

    def run(self) -> list[NDArray[np.uint8]]:
        for first in range(0, int(self.lanes.steps[0]), CHUNK):
            bases = self.lanes.tables(first)
            bases <<= PRECISION
            self.keep(self.advance(bases, self.lanes.alive(first)), first)
        if np.any(self.pointers != self.limits) or np.any(self.state != LOWER):
            raise ContainerError("a coded tensor is damaged: its stream does not end as it began")
        return self.symbols

    def advance(self, bases: Integers, alive: int) -> Integers:
        """Decode one chunk: (steps, lanes) offsets into `lookup` -> (steps, lanes) its entries."""
        state, ends = self.state[: bases.shape[1]], self.lanes.ends[:alive]
        order, pointers = self.lanes.scratch, self.pointers[:alive]
        number = np.empty(bases.shape[1], np.int64)
        for base in bases:  # each row of offsets is replaced by the entries found there
            np.bitwise_and(state, TOTAL - 1, out=number)
            np.add(number, base, out=number)
            self.lookup.take(number, out=base, mode="clip")
            np.right_shift(state, PRECISION, out=state)
            np.bitwise_and(base, TOTAL - 1, out=number)
            np.multiply(state, number, out=number)
            np.add(state, number, out=state)  # state * (frequency - 1) + state
            np.right_shift(base, PRECISION, out=number)
            np.bitwise_and(number, TOTAL - 1, out=number)
            np.add(state, number, out=state)
            low = (state < LOWER).nonzero()[0]
            counts = low.searchsorted(ends)
            taken = counts.copy()
            taken[1:] -= counts[:-1]
            place = np.repeat(pointers - counts + taken, taken)
            place += order[: len(low)]
            pointers += taken
            state[low] = state[low] << WORD | self.words.take(place, mode="clip")
        return bases

    def keep(self, entries: Integers, first: int) -> None:
        """Store the symbols of a chunk of lookup entries."""
        symbols = (entries >> 2 * PRECISION).astype(np.uint8)
        for index in range(self.lanes.alive(first)):
            lanes = self.lanes.models[index].lanes
            out = self.symbols[index][first * lanes : (first + len(entries)) * lanes]
            out[:] = self.lanes.part(symbols, index).reshape(-1)[: len(out)]


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
