"""Int8 files of ours, ONNX Runtime's quantizers' and NNCF's: errors and speed in two runtimes.

All files of a seed are made from the same calibration inputs, and timed in turns with the original.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from os import sched_getaffinity
from pathlib import Path

from benchmarks.models import Inputs, Subject, load, outputs
from benchmarks.opened import (
    RUNTIMES,
    Opened,
    answers,
    in_openvino_float32,
    seconds_in_turns,
    times_faster,
)
from benchmarks.peers.int8_files import ort_dynamic, ort_static
from benchmarks.peers.nncf_files import nncf_file
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows.ours import examples, prepared, profiled
from lilliput.model.hashes import model_hash
from lilliput.records import Plan
from lilliput.runs import Run
from lilliput.techniques import QuantizeDynamic, QuantizeRound, QuantizeStatic, Technique
from lilliput.trials import Trials

BATCHES = {1: (1, 8), 2: (1,)}  # by threads
ORIGINAL, FLOAT32 = "original", "original in float32"
OURS = {technique.name: technique for technique in (QuantizeStatic(), QuantizeDynamic())}
PRESETS = ("performance", "mixed")  # of NNCF
ONNX_PEERS = (ORIGINAL, *OURS, "ort_static", "ort_dynamic")
PEERS = {
    "onnxruntime": ONNX_PEERS,
    "openvino": (*ONNX_PEERS, *(f"nncf_{preset}" for preset in PRESETS)),
}
FLOAT_FIRST = "quantize_static, first sites float"
FIRST = 0.6  # share of the predicted damage
Done = frozenset[tuple[str, str, int]]


def measure(
    row: str, subject_name: str, done: Done, *, more: tuple[str, ...] = ()
) -> Iterator[Record]:
    """One record per file and runtime; a runtime that is not done is measured whole.

    Args:
        row: Its name.
        subject_name: A model.
        done: What is.
        more: Peers beside those of all subjects: `FLOAT_FIRST`.
    """
    for seed in SEEDS:
        left = {
            runtime: peers
            for runtime, known in PEERS.items()
            for peers in [(*known, *more)]
            if any((peer, runtime, seed) not in done for peer in peers)
        }
        if not left:
            continue
        subject = load(subject_name, seed)
        with tempfile.TemporaryDirectory() as scratch:
            files = _files(subject, seed, Path(scratch), more=more)
            for runtime, peers in left.items():
                chosen = {peer: files[peer] for peer in peers}
                yield from _measured(row, subject, chosen, runtime=runtime, seed=seed)


def _measured(
    row: str, subject: Subject, files: Mapping[str, Path], *, runtime: str, seed: int
) -> Iterator[Record]:
    reference = outputs(subject.model, subject.test)
    speeds = _speeds(runtime, files, subject)
    for peer, path in files.items():
        opened = RUNTIMES[runtime](path, 1)
        yield Record(
            row=row,
            subject=subject.name,
            peer=peer,
            setting=runtime,
            seed=seed,
            bytes=_bytes(path),
            share=_bytes(path) / _bytes(files[ORIGINAL]),
            errors=subject.errors(reference, answers(opened, subject.test)),
            details={"floats_as": opened.floats_as, **speeds[peer]},
            versions=versions(),
        )


def _files(subject: Subject, seed: int, folder: Path, *, more: tuple[str, ...]) -> dict[str, Path]:
    run = prepared(subject, seed, folder)
    trials = profiled(run)
    found = {ORIGINAL: run.original}
    for name, technique in OURS.items():
        found[name] = folder / f"{name}.onnx"
        run.form.write(trials.encodings(int8_plan(run, technique)), found[name])
    if FLOAT_FIRST in more:
        found[FLOAT_FIRST] = folder / "float_first.onnx"
        run.form.write(trials.encodings(_float_first(run, trials)), found[FLOAT_FIRST])
    makers: dict[str, Callable[[Path, Path], None]] = {
        "ort_static": partial(ort_static, batches=subject.calibration, scratch=folder),
        "ort_dynamic": partial(ort_dynamic, scratch=folder),
    }
    for name, make in makers.items():
        found[name] = folder / f"{name}.onnx"
        make(run.original, found[name])
    for preset in PRESETS:
        name = f"nncf_{preset}"
        found[name] = folder / f"{name}.xml"
        nncf_file(
            run.original,
            found[name],
            examples=examples(subject.calibration),
            preset=preset,
            transformer="attention_mask" in subject.calibration[0],
        )
    return found


def int8_plan(run: Run, technique: Technique) -> Plan:
    """The technique on all products and convolutions; lookups are int8 by row."""
    sites = run.captured.sites
    looked_up = [name for name, site in sites.items() if site.kind == "embedding"]
    steps = [technique.step_of([name for name in sites if name not in looked_up])]
    if looked_up:
        steps.append(QuantizeRound().step_of(looked_up))
    return Plan(model_hash=model_hash(run.task.model), steps=tuple(steps))


def _float_first(run: Run, trials: Trials) -> Plan:
    """All sites in int8 but the first ones, with which `FIRST` of the predicted damage begins.

    Rounding costs a network of depthwise kernels most where its maps are large and its channels
    few, and integers save little time there.
    """
    whole = int8_plan(run, technique := QuantizeStatic())
    damages = [technique.options(trials.profile, name)[-1].damage for name in run.captured.sites]
    left = [FIRST * sum(damages) - before for before in accumulate(damages, initial=0.0)]
    later = {name for name, rest in zip(run.captured.sites, left, strict=False) if rest <= 0}
    steps = [
        step.model_copy(update={"where": tuple(name for name in step.where if name in later)})
        for step in whole.steps
    ]
    return whole.model_copy(update={"steps": tuple(step for step in steps if step.where)})


def _bytes(path: Path) -> int:
    """Of the file, and of the weights that OpenVINO's own format keeps beside it."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" else 0)


def _speeds(
    runtime: str, files: Mapping[str, Path], subject: Subject
) -> dict[str, dict[str, object]]:
    """Per file how many times faster than the original in that runtime, and than it in float32.

    Two threads are timed where the process may use two processors.
    """
    found: dict[str, dict[str, object]] = {peer: {} for peer in files}
    for threads in [each for each in BATCHES if each <= len(sched_getaffinity(0))]:
        opened = {peer: RUNTIMES[runtime](path, threads) for peer, path in files.items()}
        if runtime == "openvino":
            opened[FLOAT32] = in_openvino_float32(files[ORIGINAL], threads)
        for size in BATCHES[threads]:
            where = f"batch_{size}" if threads == 1 else f"batch_{size}_threads_{threads}"
            for peer, ratios in _faster(opened, _some(subject.test, size), where).items():
                if peer in found:
                    found[peer].update(ratios)
    return found


def _faster(
    opened: Mapping[str, Opened], batch: Inputs, where: str
) -> dict[str, dict[str, object]]:
    """Ratios with their quartiles, and milliseconds, by file."""
    seconds = seconds_in_turns(opened, batch)
    found: dict[str, dict[str, object]] = {}
    for peer, after in seconds.items():
        found[peer] = {f"milliseconds_{where}": round(1000 * sorted(after)[len(after) // 2], 3)}
        for name, before in (("faster", ORIGINAL), ("faster_than_float32", FLOAT32)):
            if before in seconds:
                middle, *quartiles = times_faster(seconds[before], after)
                found[peer][f"{name}_{where}"] = round(middle, 2)
                found[peer][f"quartiles_{name}_{where}"] = [round(each, 2) for each in quartiles]
    return found


def _some(batches: tuple[Inputs, ...], size: int) -> Inputs:
    """So many examples of the middle batch."""
    return {name: value[:size] for name, value in batches[len(batches) // 2].items()}
