"""Rows of ours: real packed files, measured on what the runtime answers with the artifact."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from benchmarks.models import Inputs, Subject, damage, load, outputs
from benchmarks.peers.parts import fp32_bytes
from benchmarks.record import SEEDS, Record, read, versions
from benchmarks.rows.sites import WITH_DATA, WITHOUT_DATA
from benchmarks.rows.whole import SHARES
from lilliput import Budget, Task
from lilliput.coding import pack, unpack
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.runs import Run, Settings, prepare
from lilliput.runtime.weights_file import read_weights, write_weights
from lilliput.stages.apply import apply
from lilliput.stages.plan import Targets, Trial, plan
from lilliput.stages.profile import profile
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
            run = prepare(task_of(subject), Budget(), Settings(seed=seed), Path(scratch))
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
                    details={"predicted": chosen.predicted_damage},
                    versions=versions(),
                )


def sites(row: str, subject_name: str, peers: str, done: Done) -> Iterator[Record]:
    """The sites alone, in files as large as the peers' (their row is `peers`).

    Of the peers without data the one with the least error counts, of those with data each.
    """
    for seed in SEEDS:
        targets = targets_of(read(peers), seed)
        wanted = {
            (f"lilliput as large as {peer}", setting): size
            for (peer, setting), size in targets.items()
            if (f"lilliput as large as {peer}", setting, seed) not in done
        }
        if not wanted:
            continue
        subject = load(subject_name, seed)
        reference = outputs(subject.model, subject.test)
        with tempfile.TemporaryDirectory() as scratch:
            run = prepare(task_of(subject), Budget(), Settings(seed=seed), Path(scratch))
            alone = SitesAlone(profiled(run).profile, subject.sites)
        for (peer, setting), size in wanted.items():
            chosen = plan(alone.profile, Targets(size, None, None), evaluate=alone, seed=seed)
            packed, weights = alone.filed(chosen)
            yield Record(
                row=row,
                subject=subject.name,
                peer=peer,
                setting=setting,
                seed=seed,
                bytes=packed,
                share=packed / (4 * sum(value.numel() for value in weights.values())),
                errors=damage(subject, weights, reference),
                details={"predicted": chosen.predicted_damage},
                versions=versions(),
            )


def targets_of(records: Sequence[Record], seed: int) -> dict[tuple[str, str], int]:
    """(peer, setting) -> bytes of the files that ours must not exceed."""
    own = [record for record in records if record.seed == seed]
    found = {(r.peer, r.setting): r.bytes for r in own if r.peer in WITH_DATA}
    for setting in {record.setting for record in own}:
        blind = [r for r in own if r.setting == setting and r.peer in WITHOUT_DATA]
        if blind:
            best = min(blind, key=lambda record: record.errors["relative"])
            found[best.peer, setting] = best.bytes
    return dict(sorted(found.items()))


class SitesAlone:
    """Files that hold some sites and nothing else: what the planner is shown, and what is counted.

    Args:
        profile: Of the whole model.
        names: The sites.
    """

    def __init__(self, profile: Profile, names: Sequence[str]) -> None:
        some = {name: profile.sites[name] for name in names}
        values = {name: profile.parameters[name] for name in names}
        self.profile = replace(profile, sites=some, parameters=values)

    def filed(self, chosen: Plan) -> tuple[int, dict[str, Tensor]]:
        """Bytes of the packed file, and what is read back from it."""
        encodings = apply(chosen, self.profile)
        with tempfile.TemporaryDirectory() as folder:
            plain, packed = Path(folder) / "weights.onnx", Path(folder) / "model.lilliput"
            write_weights(self.profile.parameters, encodings, plain)
            pack(plain, packed)
            model, *_ = unpack(packed, Path(folder) / "unpacked")
            return packed.stat().st_size, read_weights(model)

    def sizes(self, chosen: Plan) -> Trial:
        """Bytes of the packed file."""
        return Trial(storage=self.filed(chosen)[0], installed=0)

    def expected_drop(self, chosen: Plan) -> float:
        """Never asked: the limit is storage."""
        raise NotImplementedError


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
    )


def ship(
    run: Run, trials: Trials, chosen: Plan, scratch: Path, subject: Subject
) -> tuple[int, Tensor]:
    """Bytes of the packed file, and the runnable file's answers on the test inputs."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        run.form.export(trials.encodings(chosen), plan=chosen, folder=Path(folder))
        size = (Path(folder) / "model.lilliput").stat().st_size
        return size, answers(Path(folder) / "model.onnx", subject.test)
