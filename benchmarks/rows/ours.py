"""Rows of ours: real packed files, measured on what the runtime answers with the artifact."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from benchmarks.models import Inputs, Subject, load, outputs
from benchmarks.peers.parts import fp32_bytes
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows.whole import SHARES
from lilliput import Budget, Task
from lilliput.coding import code_bytes
from lilliput.model.encodings import Encoding, Grid
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.runs import Run, Settings, prepare
from lilliput.stages.plan import Targets, plan
from lilliput.stages.profile import profile
from lilliput.stages.recentre import Recentring
from lilliput.trials import Trials

PROBES = 64
Done = frozenset[tuple[str, str, int]]


def examples(batches: Sequence[Inputs]) -> list[dict[str, Tensor]]:
    """Batches taken apart; padding is left out where a mask says so."""
    found = []
    for batch in batches:
        size = len(next(iter(batch.values())))
        for row in range(size):
            one = {name: value[row] for name, value in batch.items()}
            mask = one.get("attention_mask")
            length = None if mask is None else int(mask.sum())
            found.append({n: v if length is None else v[:length] for n, v in one.items()})
    return found


def task_of(subject: Subject) -> Task:
    """The subject's calibration inputs as a task: some calibrate, 64 spread ones probe."""
    some = examples(subject.calibration)
    stride = max(2, len(some) // PROBES)
    search = some[::stride][:PROBES]
    chosen = {id(one) for one in search}
    return Task(
        model=subject.model,
        calibration=[one for one in some if id(one) not in chosen],
        search=search,
        proof=search[:1],
        name=subject.name,
    )


def answers(path: Path, batches: Sequence[Inputs]) -> Tensor:
    """What the artifact answers in the runtime's default session, (N, k)."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [
        session.run(None, {name: value.numpy() for name, value in batch.items()})[0]
        for batch in batches
    ]
    return torch.cat([torch.from_numpy(part) for part in parts])


def whole(row: str, subject_name: str, done: Done) -> Iterator[Record]:
    """One profile per seed, one file per share."""
    for seed in SEEDS:
        wanted = [share for share in SHARES if ("lilliput", f"{share:.0%}", seed) not in done]
        if not wanted:
            continue
        subject = load(subject_name, seed)
        reference = outputs(subject.model, subject.test)
        with tempfile.TemporaryDirectory() as scratch:
            run = prepared(subject, seed, Path(scratch))
            trials = profiled(run)
            for share in wanted:
                target = share * fp32_bytes(subject.model)
                chosen = plan(trials.profile, Targets(target, None, None), evaluate=trials)
                packed, outcome = ship(run, trials, chosen, Path(scratch), subject)
                yield Record(
                    row=row,
                    subject=subject.name,
                    peer="lilliput",
                    setting=f"{share:.0%}",
                    seed=seed,
                    bytes=packed,
                    share=packed / fp32_bytes(subject.model),
                    errors=subject.errors(reference, outcome),
                    details={
                        "predicted": chosen.predicted_damage,
                        "bits_above_bound": bits_above_bound(
                            trials.profile, trials.encodings(chosen)
                        ),
                    },
                    versions=versions(),
                )


def bits_above_bound(known: Profile, encodings: Mapping[str, Encoding]) -> float:
    """Mean over weights of coded bits minus those of reverse water-filling at the same damage.

    Sites without groups and with statistics count; those below 1 % of the weights do not.
    """
    total = count = 0.0
    least = 0.01 * sum(site.site.size for site in known.sites.values())
    for name, site in known.sites.items():
        grid = encodings[name]
        if not isinstance(grid, Grid) or site.site.size < least:
            continue
        bound = known.bound_bits(name, site.site.matrix(grid.decode()))
        if bound is None:
            continue
        total += 8 * code_bytes(grid.codes.numpy()) - bound * site.site.size
        count += site.site.size
    return total / count


def prepared(subject: Subject, seed: int, scratch: Path) -> Run:
    """The subject as a run, its model captured and exported into `scratch`."""
    return prepare(task_of(subject), Budget(), Settings(seed=seed), scratch)


def profiled(run: Run) -> Trials:
    """Statistics and probes, ready to try plans on."""
    known = profile(run.task, run.captured, run.split, folding=run.form.folding)
    return Trials(
        task=run.task,
        profile=known,
        form=run.form,
        metric=None,
        search=run.split.search,
        proof_size=0,
        recentring=Recentring.of(run.task, known, split=run.split),
    )


def ship(
    run: Run, trials: Trials, chosen: Plan, scratch: Path, subject: Subject
) -> tuple[int, Tensor]:
    """Bytes of the packed file, and the runnable file's answers on the test inputs."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        run.form.export(trials.encodings(chosen), plan=chosen, folder=Path(folder))
        size = (Path(folder) / "model.lilliput").stat().st_size
        return size, answers(Path(folder) / "model.onnx", subject.test)
