"""The demo's sentence classifier twenty times smaller, and four times faster, at a point.

Both are judged by the same 6,820 film sentences as the demo. Learning sees the 2,000 sentences to
which the demo's head was fitted, with their labels; a student also other sentences of the archive,
without any. The original's speed is that in the runtime where it is fastest.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import from_numpy, nn

from benchmarks.models import Inputs
from benchmarks.opened import (
    RUNTIMES,
    in_openvino_float32,
    seconds_in_turns,
    times_faster,
)
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows.int8 import int8_plan
from benchmarks.rows.judged import of_report
from benchmarks.rows.ours import profiled
from examples import demo_task
from lilliput import Budget, Report, Task, compress, distill, finetune, shorten
from lilliput.folders import RUNNABLE
from lilliput.learning import Features, Logits, Training
from lilliput.learning.recovery import Recover
from lilliput.ledger import look_confidence
from lilliput.metrics import metric_by_name
from lilliput.runs import Run, Settings, prepare
from lilliput.stages.measure import Conditions, measure, typical_batch
from lilliput.statistics import drop_bound
from lilliput.techniques import QuantizeDynamic

Done = frozenset[tuple[str, str, int]]
SUBJECT = "film sentences"
LIMIT = 0.01
BATCHES = (1, 8)
THREAD = "one thread"
CONDITIONS = Conditions(threads=1, seconds=3, compare=False, generalize="none")

TIMES = (20,)
LEARNING = Recover(epochs=1, strength="full", batch_size=32, labels=1.0)
PLANNED, RECOVERED = "planned, no training", "recovered"

CORPORA = ("movieReviewSnippets", "nytEditorialSnippets", "amazonReviewSnippets", "tweets")
LAYER = "encoder.bert.encoder.layer"
WITHOUT = (1, 3, 4)  # of six layers
IMITATING = (Logits(temperature=1.0), Features(pairs=(("encoder", "encoder"),), weight=3.0))
TUNING = Training(epochs=2, batch_size=32, rate=1e-4)
STUDENT = Training(steps=300, batch_size=32, rate=3e-4, weight_decay=0.0)
INT8, DISTILLED = "6 layers, int8", "3 layers, distilled, int8"


def smaller(row: str, done: Done) -> Iterator[Record]:
    """As small as asked without training, and with full recovery, for every seed."""
    for seed in SEEDS:
        for times in TIMES:
            for peer in (PLANNED, RECOVERED):
                if (peer, f"1/{times}", seed) not in done:
                    yield _small(row, times, peer=peer, seed=seed)


def _small(row: str, times: int, *, peer: str, seed: int) -> Record:
    start = time.perf_counter()
    report = _compressed(times, seed, learn=peer == RECOVERED)
    size, errors, details = of_report(report)
    details["seconds"] = time.perf_counter() - start
    share = size / int(report.original.storage_bytes or 0)
    return Record(row, SUBJECT, peer, f"1/{times}", seed, size, share, errors, details, versions())


def _compressed(times: int, seed: int, *, learn: bool) -> Report:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = Settings(
            seed=seed,
            recover=LEARNING if learn else None,
            conditions=CONDITIONS,
            ledger=folder / "looks.json",
        )
        budget = Budget(storage=1 / times, drop=LIMIT)
        return compress(demo_task.task(seed), budget, out=folder / "out", settings=settings)


def faster(row: str, done: Done) -> Iterator[Record]:
    """Integers alone, and with half of the layers, for every seed."""
    for seed in SEEDS:
        wanted = [peer for peer in (DISTILLED, INT8) if (peer, THREAD, seed) not in done]
        if not wanted:
            continue
        task = demo_task.task(seed)
        with tempfile.TemporaryDirectory() as scratch:
            original = prepare(task, Budget(), Settings(seed=seed), _folder(scratch, "original"))
            for peer in wanted:
                model = task.model if peer == INT8 else student(task)
                folder = _shipped(replace(task, model=model), seed, _folder(scratch, peer))
                yield _fast(row, peer, original=original, folder=folder)


def _folder(scratch: str, name: str) -> Path:
    found = Path(scratch) / name
    found.mkdir()
    return found


def student(task: Task) -> nn.Module:
    """Three of the six layers, which learn to embed sentences as all six do, then from labels."""
    layers = [f"{LAYER}.{number}" for number in WITHOUT]
    short = shorten(task.model, task.sample(2), names=layers)
    unlabelled = replace(task, train=demo_task.encode(_other_texts(task)))
    found = distill(unlabelled, student=short, losses=IMITATING, training=STUDENT).model
    fit_anew(found, task)
    return finetune(replace(task, model=found), training=TUNING).model


def fit_anew(model: nn.Module, task: Task) -> None:
    """Fits the head in place, on the sentences to which the original's was fitted."""
    features = demo_task.embed(model.encoder, task.train.inputs).clone()
    demo_task.fit_head(model.head, features, torch.tensor(task.train.labels))


def _other_texts(task: Task) -> list[str]:
    """All sentences of the archive that do not steer or judge."""
    judged = {text for part in (task.calibration, task.search, task.proof) for text in part.texts}
    every = [text for corpus in CORPORA for _, text in demo_task.rated_sentences(corpus)]
    return [text for text in dict.fromkeys(every) if text not in judged]


def _shipped(task: Task, seed: int, folder: Path) -> Path:
    """The artifact's folder: products on integers, lookups int8 by row."""
    run = prepare(task, Budget(), Settings(seed=seed), folder)
    trials = profiled(run)
    plan = int8_plan(run, QuantizeDynamic())
    out = folder / "out"
    out.mkdir()
    run.form.export(trials.encodings(plan), plan=plan, folder=out)
    return out


def _fast(row: str, peer: str, *, original: Run, folder: Path) -> Record:
    found, evidence = measure(
        original.original,
        folder,
        task=original.task,
        proof=original.split.proof,
        conditions=CONDITIONS,
    )
    if evidence is None:
        raise RuntimeError("the artifact did not run")
    bound = drop_bound(
        evidence.original,
        evidence.artifact,
        metric_by_name("accuracy"),
        confidence=look_confidence(1),
    )
    size, whole = found.artifact.storage_bytes or 0, found.original.storage_bytes or 1
    return Record(
        row=row,
        subject=SUBJECT,
        peer=peer,
        setting=THREAD,
        seed=original.settings.seed,
        bytes=size,
        share=size / whole,
        errors={"drop": bound.estimate or 0.0, "upper": bound.upper or 1.0},
        details={
            "proved": float(bound.upper is not None and bound.upper <= LIMIT),
            "score": found.artifact.score,
            "original_score": found.original.score,
            **_times_faster(original, folder),
        },
        versions=versions(),
    )


def _times_faster(original: Run, folder: Path) -> dict[str, object]:
    """Ratios and their quartiles at two batch sizes, each file in the runtime that is best for it.

    One thread, in turns, sentences of median length; time is what the processor spends.
    """
    before = {name: opened(original.original, 1) for name, opened in RUNTIMES.items()}
    before["openvino in float32"] = in_openvino_float32(original.original, 1)
    after = {name: opened(folder / RUNNABLE, 1) for name, opened in RUNTIMES.items()}
    files = {f"original, {name}": one for name, one in before.items()}
    files |= {f"artifact, {name}": one for name, one in after.items()}
    found: dict[str, object] = {}
    for size in BATCHES:
        batch = _typical(original.task, original.split.proof, size)
        seconds = seconds_in_turns(files, batch, clock=time.process_time)
        first, last = (
            min(
                (name for name in seconds if name.startswith(whose)),
                key=lambda n: median(seconds[n]),
            )
            for whose in ("original", "artifact")
        )
        ratio, *quartiles = times_faster(seconds[first], seconds[last])
        found |= {
            f"faster_batch_{size}": round(ratio, 2),
            f"quartiles_faster_batch_{size}": [round(each, 2) for each in quartiles],
            f"best_batch_{size}": [first, last],
            f"milliseconds_batch_{size}": {
                n: round(1000 * median(s), 3) for n, s in seconds.items()
            },
        }
    return found


def _typical(task: Task, proof: tuple[int, ...], size: int) -> Inputs:
    """So many proof sentences around the median length, as `lilliput.stages.measure` has it."""
    names = task.sample(1).keys()
    values = typical_batch(task, proof, size=size)
    return {name: from_numpy(value) for name, value in zip(names, values, strict=True)}
