"""Rows on whole models at 12, 10 and 8 % of their fp32 bytes, by peers that need no data.

A peer's file does not depend on the seed, so each is made once and measured on every seed's inputs.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.models import Subject, load
from benchmarks.peers import Compressed, mixed
from benchmarks.peers import standard as nncodec
from benchmarks.peers.parts import fp32_bytes
from benchmarks.record import SEEDS, Record
from benchmarks.yardstick import Yardstick

SHARES = (0.12, 0.10, 0.08)
# Precision of NNCodec's vectors; its default is -75, coarser ones leave more for the weights.
# MiniLM's vectors are too small a part of it to matter.
VECTOR_QPS = {"minilm": (-56,), "efficientnet": (-75, -56, -44)}

Coder = Callable[[Subject, Sequence[int]], Iterator[Compressed]]
Done = frozenset[tuple[str, str, int]]


def standard(row: str, subject_name: str, done: Done) -> Iterator[Record]:
    """NNCodec in its best mode without data, with some precisions of its vectors."""
    for vector_qp in VECTOR_QPS[subject_name]:
        settings: nncodec.Settings = {"opt_qp": True, "vector_qp": vector_qp}
        coder = partial(nncodec.whole_model, settings=settings)
        yield from measure(coder, row, subject_name, done, peer=f"nncodec{vector_qp}")


def hqq_zstd(row: str, subject_name: str, done: Done) -> Iterator[Record]:
    """HQQ in groups of 64 with mixed bits, through zstd."""
    yield from measure(mixed.whole_model, row, subject_name, done, peer="hqq_zstd")


def measure(
    coder: Coder, row: str, subject_name: str, done: Done, *, peer: str
) -> Iterator[Record]:
    """One file per share, measured for every seed that is not done yet."""
    wanted = [
        share for share in SHARES if any((peer, f"{share:.0%}", seed) not in done for seed in SEEDS)
    ]
    if not wanted:
        return
    subjects = [load(subject_name, seed) for seed in SEEDS]
    original = fp32_bytes(subjects[0].model)
    yardsticks = [
        Yardstick(row, subject, seed, original)
        for seed, subject in zip(SEEDS, subjects, strict=True)
    ]
    targets = [int(share * original) for share in wanted]
    for share, made in zip(wanted, coder(subjects[0], targets), strict=True):
        for yardstick in yardsticks:
            filed = made.bytes, made.weights
            yield yardstick.record(peer, f"{share:.0%}", filed=filed, details=made.settings)
