"""Codes that learn to be cheap, against the same storage without learning."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.models import clothes
from benchmarks.record import SEEDS, Record, versions
from lilliput import Budget, Report, compress
from lilliput.errors import UnreachableError
from lilliput.learning.recovery import Recover
from lilliput.runs import Settings

Done = frozenset[tuple[str, str, int]]
TIMES = {"lenet300": (60, 130), "lenet5": (150, 250)}  # how many times smaller
LEARNING = Recover(epochs=12, strength="full", squeeze=True, labels=0.5, batch_size=128)
SQUEEZED, PLANNED = "squeezed in training", "planned, no training"


def measure(row: str, done: Done) -> Iterator[Record]:
    """Both ways at every size, for every seed."""
    for seed in SEEDS:
        for kind, sizes in TIMES.items():
            for times in sizes:
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
    limits = {limit.name: limit for limit in report.limits}
    drop, size = limits["drop"], int(report.artifact.storage_bytes or 0)
    whole = int(report.original.storage_bytes or 0)
    details |= {"times_smaller": whole / size, "proved": float(drop.verdict == "proved")}
    details |= {"score": report.artifact.score, "original_score": report.original.score}
    errors = {"drop": float(drop.value or 0.0), "upper": float(drop.upper or 1.0)}
    return Record(row, kind, peer, setting, seed, size, size / whole, errors, details, versions())


def _report(kind: str, times: int, seed: int, *, learn: bool) -> Report | None:
    """None where no plan is that small."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = Settings(
            seed=seed, recover=LEARNING if learn else None, ledger=folder / "looks.json"
        )
        budget = Budget(storage=1 / times, drop="1%")
        try:
            return compress(clothes.task(kind, seed), budget, out=folder / "out", settings=settings)
        except UnreachableError:
            return None
