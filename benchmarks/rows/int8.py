"""Int8 files of ours and of ONNX Runtime's quantizers: errors and speed in two runtimes."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.models import Inputs, Subject, load, outputs
from benchmarks.peers.int8_files import (
    RUNTIMES,
    answers,
    ort_dynamic,
    ort_static,
    speedups,
)
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows.ours import prepared, profiled
from lilliput.model.hashes import model_hash
from lilliput.records import Plan
from lilliput.runs import Run
from lilliput.techniques import QuantizeDynamic, QuantizeRound, QuantizeStatic, Technique

BATCHES = (1, 8)
Done = frozenset[tuple[str, str, int]]


def measure(row: str, subject_name: str, done: Done) -> Iterator[Record]:
    """One record per file and runtime; all files of a seed are made from one calibration."""
    for seed in SEEDS:
        peers = ("quantize_static", "quantize_dynamic", "ort_static", "ort_dynamic")
        if all((peer, runtime, seed) in done for peer in peers for runtime in RUNTIMES):
            continue
        subject = load(subject_name, seed)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            run = prepared(subject, seed, folder)
            for peer, path in _files(run, subject, folder):
                yield from _measured(row, subject, run.original, path, peer=peer, seed=seed)


def _files(run: Run, subject: Subject, folder: Path) -> Iterator[tuple[str, Path]]:
    trials = profiled(run)
    for technique in (QuantizeStatic(), QuantizeDynamic()):
        path = folder / f"{technique.name}.onnx"
        run.form.write(trials.encodings(_plan(run, technique)), path)
        yield technique.name, path
    makers: dict[str, Callable[[Path, Path, Path], None]] = {
        "ort_static": partial(ort_static, batches=subject.calibration),
        "ort_dynamic": ort_dynamic,
    }
    for peer, make in makers.items():
        path = folder / f"{peer}.onnx"
        make(run.original, path, folder)
        yield peer, path


def _plan(run: Run, technique: Technique) -> Plan:
    """The technique on all products and convolutions; lookups are int8 by row."""
    sites = run.captured.sites
    looked_up = [name for name, site in sites.items() if site.kind == "embedding"]
    steps = [technique.step_of([name for name in sites if name not in looked_up])]
    if looked_up:
        steps.append(QuantizeRound().step_of(looked_up))
    return Plan(model_hash=model_hash(run.task.model), steps=tuple(steps))


def _measured(
    row: str, subject: Subject, original: Path, path: Path, *, peer: str, seed: int
) -> Iterator[Record]:
    reference = outputs(subject.model, subject.test)
    for runtime, opened in RUNTIMES.items():
        before, after = opened(original), opened(path)
        details: dict[str, object] = {"runtime": runtime, "threads": 1}
        for size in BATCHES:
            middle, low, high = speedups(before, after, _some(subject.test, size))
            details[f"faster_batch_{size}"] = round(middle, 2)
            details[f"quartiles_batch_{size}"] = [round(low, 2), round(high, 2)]
        yield Record(
            row=row,
            subject=subject.name,
            peer=peer,
            setting=runtime,
            seed=seed,
            bytes=path.stat().st_size,
            share=path.stat().st_size / original.stat().st_size,
            errors=subject.errors(reference, answers(after, subject.test)),
            details=details,
            versions=versions(),
        )


def _some(batches: tuple[Inputs, ...], size: int) -> Inputs:
    """So many examples of the middle batch."""
    return {name: value[:size] for name, value in batches[len(batches) // 2].items()}
