"""Pruned sites of MiniLM at equal shares of zeros: the methods people use, and ours.

Wanda and SparseGPT are our own techniques with the settings of their papers (the authors' code is
for causal language models only). All read the same calibration sentences.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.models import damage, load, outputs
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows import ours
from benchmarks.rows.sites_ours import SitesAlone
from lilliput.records import Plan
from lilliput.techniques import (
    PruneMagnitude,
    PruneSensitivity,
    PruneSparsegpt,
    PruneSurgeon,
    PruneWanda,
    Technique,
)

AMOUNTS = (0.5, 0.6, 0.7)


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


def measure(row: str, done: ours.Done) -> Iterator[Record]:
    """One profile per seed, one file per method and amount."""
    for seed in SEEDS:
        wanted = [
            (name, amount)
            for amount in AMOUNTS
            for name in methods(amount)
            if (name, f"{amount:.0%}", seed) not in done
        ]
        if not wanted:
            continue
        subject = load("minilm", seed)
        reference = outputs(subject.model, subject.test)
        with tempfile.TemporaryDirectory() as scratch:
            known = ours.profiled(ours.prepared(subject, seed, Path(scratch))).profile
        alone = SitesAlone(known, subject.sites)
        whole = sum(4 * known.sites[name].site.size for name in subject.sites)
        for name, amount in wanted:
            step = methods(amount)[name].step_of(subject.sites)
            packed, weights = alone.filed(Plan(model_hash=known.model_hash, steps=(step,)))
            zeros = sum(int((value == 0).sum()) for value in weights.values())
            yield Record(
                row=row,
                subject=subject.name,
                peer=name,
                setting=f"{amount:.0%}",
                seed=seed,
                bytes=packed,
                share=packed / whole,
                errors=damage(subject, weights, reference),
                details={"zeros": 4 * zeros / whole},
                versions=versions(),
            )
