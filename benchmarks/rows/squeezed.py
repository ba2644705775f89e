"""Codes that learn to be cheap, against the same storage without learning."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.models import clothes
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows.judged import of_report
from lilliput import Budget, Report, compress
from lilliput.errors import UnreachableError
from lilliput.learning.recovery import Recover
from lilliput.runs import Settings

Done = frozenset[tuple[str, str, int]]
TIMES = {  # how many times smaller
    "lenet300": (60, 130),
    "lenet5": (150, 250),
    "resnet20": (40,),
}
LEARNING = Recover(epochs=12, strength="full", squeeze=True, labels=0.5, batch_size=128)
DEEP = replace(LEARNING, epochs=5, augmentation="flip")
SQUEEZED, PLANNED = "squeezed in training", "planned, no training"


def measure(row: str, kinds: tuple[str, ...], done: Done) -> Iterator[Record]:
    """Both ways at every size, for every seed."""
    for seed in SEEDS:
        for kind in kinds:
            for times in TIMES[kind]:
                setting = f"{kind}, 1/{times}"
                for peer in (SQUEEZED, PLANNED):
                    if (peer, setting, seed) not in done:
                        yield _record(row, kind, times, peer=peer, setting=setting, seed=seed)


def _record(row: str, kind: str, times: int, *, peer: str, setting: str, seed: int) -> Record:
    start = time.perf_counter()
    report = _report(kind, times, seed, learn=peer == SQUEEZED)
    details: dict[str, object] = {"seconds": time.perf_counter() - start}
    if report is None:
        return Record(row, kind, peer, setting, seed, 0, 0.0, {}, details | {"reached": 0.0})
    size, errors, found = of_report(report)
    whole = int(report.original.storage_bytes or 0)
    details |= found
    return Record(row, kind, peer, setting, seed, size, size / whole, errors, details, versions())


def _report(kind: str, times: int, seed: int, *, learn: bool) -> Report | None:
    """None where no plan is that small."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        how = DEEP if kind == "resnet20" else LEARNING
        settings = Settings(seed=seed, recover=how if learn else None, ledger=folder / "looks.json")
        budget = Budget(storage=1 / times, drop="1%")
        try:
            return compress(clothes.task(kind, seed), budget, out=folder / "out", settings=settings)
        except UnreachableError:
            return None
