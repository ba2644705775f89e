"""Ours in groups of 64 at the peers' own bytes, bits packed and no entropy coding on either side.

Our codes, steps and zeros are written in the peers' own file format, so sizes differ by nothing but
the columns' factors of AWQ. The peers are those of `benchmarks.rows.sites`.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models import load
from benchmarks.peers import feedback, files
from benchmarks.record import SEEDS, Record
from benchmarks.rows import sites
from benchmarks.rows.ours import Done, prepared, profiled
from benchmarks.yardstick import Yardstick
from lilliput.model.encodings import Encoding, Grouped
from lilliput.techniques import QuantizeAdaround, QuantizeAwq, QuantizeGroups, Technique

FACTORS = ".columns"


def methods(bits: int) -> dict[str, Technique]:
    """Name -> technique at this width."""
    return {
        "lilliput round": QuantizeGroups(bits=bits, method="round"),
        "lilliput feedback": QuantizeGroups(bits=bits),
        "lilliput awq": QuantizeAwq(bits=bits),
        "lilliput adaround": QuantizeAdaround(bits=bits),
    }


def measure(row: str, subject_name: str, done: Done) -> Iterator[Record]:
    """Every peer and every technique of ours at 4, 3 and 2 bits for every seed."""
    for seed in SEEDS:
        names = (*sites.WITHOUT_DATA, "error_feedback", *methods(4))
        wanted = [
            (peer, bits)
            for bits in sites.BITS
            for peer in names
            if (peer, f"int{bits}", seed) not in done
        ]
        if not wanted:
            continue
        subject = load(subject_name, seed)
        yardstick = Yardstick(row, subject, seed)
        moments = feedback.second_moments(subject)
        with tempfile.TemporaryDirectory() as scratch:
            known = profiled(prepared(subject, seed, Path(scratch))).profile
        for peer, bits in wanted:
            ours = methods(bits).get(peer)
            if ours is None:
                made = packed(sites.compress(peer, subject, moments, bits))
            else:
                made = packed(items_of(ours.apply(known, subject.sites)))
            yield yardstick.record(peer, f"int{bits}", filed=made)


def items_of(encodings: dict[str, Encoding]) -> dict[str, files.Item]:
    """Our encodings in the peers' format, factors of columns as tensors of their own."""
    found: dict[str, files.Item] = {}
    for name, made in encodings.items():
        if not isinstance(made, Grouped) or made.zeros is None:
            raise TypeError(f"{name} is not in groups with zeros")
        found[name] = files.Grouped(
            codes=made.codes.reshape(-1),
            scales=made.steps.reshape(-1).half(),
            zeros=made.zeros.reshape(-1),
            bits=made.bits,
            shape=tuple(made.shape),
        )
        if made.column_steps is not None:
            found[name + FACTORS] = files.Plain(made.column_steps.half())
    return found


def packed(items: dict[str, files.Item]) -> tuple[int, dict[str, Tensor]]:
    """Written with packed bits, and read back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sites.bin"
        size = files.write(path, items, forms=(files.PACKED,))["file"]
        values = files.read(path)
    factors = {name: value for name, value in values.items() if name.endswith(FACTORS)}
    weights = {
        name: value * factors.get(name + FACTORS, torch.ones(()))
        for name, value in values.items()
        if name not in factors
    }
    return size, weights
