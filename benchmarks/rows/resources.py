"""What compressing takes: seconds and memory of calibrate, plan, apply; seconds to unpack."""

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.models import load
from benchmarks.peers.parts import fp32_bytes
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows.ours import Done, prepared, profiled
from benchmarks.rows.whole import SHARES
from lilliput.coding import unpack
from lilliput.stages.plan import Targets, plan


def measure(row: str, subject_name: str, done: Done) -> Iterator[Record]:
    """One file per seed, at the second of the shares; export and measurement are not counted."""
    setting = f"{SHARES[1]:.0%}"
    for seed in SEEDS:
        if ("lilliput", setting, seed) in done:
            continue
        subject = load(subject_name, seed)
        with tempfile.TemporaryDirectory() as scratch:
            run = prepared(subject, seed, Path(scratch))
            started = time.perf_counter()
            trials = profiled(run)
            target = SHARES[1] * fp32_bytes(subject.model)
            chosen = plan(trials.profile, Targets(target, None, None), evaluate=trials)
            encodings = trials.encodings(chosen)
            seconds = time.perf_counter() - started
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            out = Path(scratch) / "out"
            out.mkdir()
            run.form.export(encodings, plan=chosen, folder=out)
            started = time.perf_counter()
            unpack(out / "model.lilliput", Path(scratch) / "unpacked")
            yield Record(
                row=row,
                subject=subject.name,
                peer="lilliput",
                setting=setting,
                seed=seed,
                bytes=(out / "model.lilliput").stat().st_size,
                share=(out / "model.lilliput").stat().st_size / fp32_bytes(subject.model),
                errors={},
                details={
                    "seconds": round(seconds, 1),
                    "unpack_seconds": round(time.perf_counter() - started, 2),
                    "memory_bytes": peak,
                    "processors": os.cpu_count(),
                },
                versions=versions(),
            )
