"""Sites of MiniLM at equal shares of zeros or numbers of shared values: known ways and ours.

Wanda and SparseGPT are our own techniques with the settings of their papers (the authors' code is
for causal language models only). All read the same calibration sentences.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.models import load
from benchmarks.record import SEEDS, Record
from benchmarks.rows import ours
from benchmarks.rows.sites_ours import SitesAlone
from benchmarks.yardstick import Yardstick
from lilliput.records import Plan
from lilliput.techniques import (
    PruneMagnitude,
    PruneSensitivity,
    PruneSparsegpt,
    PruneSurgeon,
    PruneWanda,
    ShareValues,
    Technique,
)

AMOUNTS = (0.5, 0.6, 0.7)
VALUES = (16,)


def methods(amount: float) -> dict[str, Technique]:
    """Name -> technique at this amount."""
    return {
        "magnitude": PruneMagnitude(amount=amount),
        "wanda": PruneWanda(amount=amount),
        "sparsegpt": PruneSparsegpt(amount=amount),
        "sparsegpt, refit": PruneSparsegpt(amount=amount, refit=True),
        "surgeon": PruneSurgeon(amount=amount, at_once=32),
        "sensitivity": PruneSensitivity(amount=amount),
    }


def sharing(values: int) -> dict[str, Technique]:
    """Name -> technique at this number of shared values; k-means is that of Deep Compression."""
    return {
        "k-means": ShareValues(values=values, method="plain", scaled=False),
        "k-means, scaled": ShareValues(values=values, method="plain"),
        "weighted": ShareValues(values=values, method="weighted"),
        "compensated": ShareValues(values=values),
    }


def measure(row: str, done: ours.Done) -> Iterator[Record]:
    """Every pruning method at every amount."""
    settings = {f"{amount:.0%}": methods(amount) for amount in AMOUNTS}
    yield from _compared(row, done, settings)


def shared(row: str, done: ours.Done) -> Iterator[Record]:
    """Every way of sharing few values."""
    yield from _compared(row, done, {f"{count} values": sharing(count) for count in VALUES})


def _compared(
    row: str, done: ours.Done, settings: Mapping[str, Mapping[str, Technique]]
) -> Iterator[Record]:
    """One profile per seed, one file per technique and setting."""
    for seed in SEEDS:
        wanted = [
            (name, setting, technique)
            for setting, techniques in settings.items()
            for name, technique in techniques.items()
            if (name, setting, seed) not in done
        ]
        if not wanted:
            continue
        subject = load("minilm", seed)
        yardstick = Yardstick(row, subject, seed)
        with tempfile.TemporaryDirectory() as scratch:
            known = ours.profiled(ours.prepared(subject, seed, Path(scratch))).profile
        alone = SitesAlone(known, subject.sites)
        whole = sum(known.sites[name].site.size for name in subject.sites)
        for name, setting, technique in wanted:
            step = technique.step_of(subject.sites)
            filed = alone.filed(Plan(model_hash=known.model_hash, steps=(step,)))
            zeros = sum(int((value == 0).sum()) for value in filed[1].values())
            yield yardstick.record(name, setting, filed=filed, details={"zeros": zeros / whole})
