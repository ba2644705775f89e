"""Streams whose symbols are still to be coded, so that many are coded together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lilliput.coding.bits import varint
from lilliput.coding.rans import Model, encode

WORD_BYTES = 2
STATE_BYTES = 4


@dataclass(frozen=True)
class Symbols:
    """The last part of a coded matrix: final states and words, not yet coded.

    Attributes:
        model: Tables and lanes.
        symbols: (count,) uint8.
        ideal: Their information content in bytes.
    """

    model: Model
    symbols: NDArray[np.uint8]
    ideal: float

    @property
    def size(self) -> float:
        """Bytes to expect: a lane's final state takes 4, and replaces about one of them."""
        return self.ideal + (STATE_BYTES - 1) * self.model.lanes


@dataclass(frozen=True)
class Draft:
    """A stream in parts, in order; with `prefixed`, its length comes before it as a varint."""

    parts: tuple["bytes | Draft | Symbols", ...]
    prefixed: bool = False

    @property
    def size(self) -> float:
        """Bytes to expect, within a few."""
        sizes = (len(part) if isinstance(part, bytes) else part.size for part in self.parts)
        size = sum(sizes)
        return size + len(varint(round(size))) * self.prefixed

    def symbols(self) -> Iterator[Symbols]:
        """All that is still to be coded, in order."""
        for part in self.parts:
            if isinstance(part, Symbols):
                yield part
            elif isinstance(part, Draft):
                yield from part.symbols()

    def render(self, coded: Iterator[bytes]) -> bytes:
        """The stream, with the symbols' bytes taken from `coded` in order."""
        out = bytearray()
        for part in self.parts:
            if isinstance(part, bytes):
                out += part
            else:
                out += next(coded) if isinstance(part, Symbols) else part.render(coded)
        return varint(len(out)) + bytes(out) if self.prefixed else bytes(out)


def finish(drafts: Sequence[Draft]) -> list[bytes]:
    """The bytes of several drafts, all their symbols coded in lock-step."""
    symbols = [part for draft in drafts for part in draft.symbols()]
    coded = encode([part.model for part in symbols], [part.symbols for part in symbols])
    streams = (
        item.states.astype("<u4").tobytes() + item.words.astype("<u2").tobytes() for item in coded
    )
    return [draft.render(streams) for draft in drafts]
