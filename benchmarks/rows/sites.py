"""Rows on the sites only: int4, int3 and int2 in groups of 64 by every peer, real files.

All other weights stay as they are, and count neither in the bytes nor in the share.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from benchmarks.models import Subject, load
from benchmarks.peers import feedback, rounding
from benchmarks.peers.files import Item, read, write
from benchmarks.record import SEEDS, Record
from benchmarks.yardstick import Yardstick

BITS = (4, 3, 2)
WITHOUT_DATA: dict[str, Callable[[Tensor, int], Item]] = {
    "round_to_nearest": rounding.round_to_nearest,
    "hqq": rounding.hqq,
    "torchao_intx": rounding.torchao_intx,
}
WITH_DATA: dict[str, Callable[[Tensor, Tensor, int], Item]] = {
    "error_feedback": feedback.error_feedback,
    "compensated_codebook": feedback.compensated_codebook,
}


@dataclass(frozen=True)
class Sized:
    """The sizes of a peer's file in both forms, in bytes, and what it decodes to."""

    sizes: dict[str, int]
    weights: dict[str, Tensor]


def measure(row: str, subject_name: str, done: frozenset[tuple[str, str, int]]) -> Iterator[Record]:
    """Every peer at every number of bits for every seed that is not done yet."""
    kept: dict[tuple[str, int], Sized] = {}  # files that do not depend on the seed
    for seed in SEEDS:
        wanted = [
            (peer, bits)
            for bits in BITS
            for peer in (*WITHOUT_DATA, *WITH_DATA)
            if (peer, f"int{bits}", seed) not in done
        ]
        if not wanted:
            continue
        subject = load(subject_name, seed)
        yardstick = Yardstick(row, subject, seed)
        moments = feedback.second_moments(subject)
        for peer, bits in wanted:
            made = kept.get((peer, bits)) or sized(compress(peer, subject, moments, bits))
            if peer in WITHOUT_DATA:
                kept[peer, bits] = made
            details = {f"{form}_bytes": size for form, size in made.sizes.items()}
            filed = made.sizes["file"], made.weights
            yield yardstick.record(peer, f"int{bits}", filed=filed, details=details)


def compress(peer: str, subject: Subject, moments: dict[str, Tensor], bits: int) -> dict[str, Item]:
    """Every site as the peer stores it."""
    weights = feedback.all_sites(subject)
    if peer in WITHOUT_DATA:
        return {name: WITHOUT_DATA[peer](weight, bits) for name, weight in weights.items()}
    return {name: WITH_DATA[peer](weight, moments[name], bits) for name, weight in weights.items()}


def sized(items: dict[str, Item]) -> Sized:
    """Write the file and read it back."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sites.bin"
        sizes = write(path, items)
        return Sized(sizes, read(path))
