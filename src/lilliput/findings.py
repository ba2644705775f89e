"""Everything a run found out, put together as its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lilliput.budget import Budget
from lilliput.environment import environment
from lilliput.model.encodings import Encoding, Grid, Grouped, parts_of
from lilliput.model.profiles import Profile
from lilliput.planned import Planning, Point
from lilliput.records import Drop, Fidelity, Measurement, Plan, Recovery, Report, SiteReport
from lilliput.runs import Run
from lilliput.runtime.onnx_encode import STEP_SUFFIXES
from lilliput.stages.export import Exported
from lilliput.stages.judge import Judgement
from lilliput.stages.summary import summary_sentence
from lilliput.tensor.second_order import layer_damage


@dataclass(frozen=True)
class Findings:
    """What the verbs returned.

    Attributes:
        profile: From `profile`.
        plan: From `plan`, or read from a file.
        planning: How it was found; None where it was read.
        points: Of a sweep.
        recovery: What was learned back; None where that was not asked for.
        encodings: From `apply`.
        exported: From `export`.
        measurement: From `measure`.
        judgement: From `judge`.
        fidelity: PyTorch's compressed model against the artifact; None without examples.
        warnings: Lines for the reader.
        trials: How often the search examples were asked while planning.
        recentred: Whether the last bias was moved, for which the calibration examples were asked.
    """

    profile: Profile
    plan: Plan
    encodings: Mapping[str, Encoding]
    exported: Exported
    measurement: Measurement
    judgement: Judgement
    fidelity: Fidelity | None
    warnings: tuple[str, ...]
    trials: int = 0
    recentred: bool = False
    planning: Planning | None = None
    points: tuple[Point, ...] = ()
    recovery: Recovery | None = None


def assemble(run: Run, found: Findings, *, drop: Drop | None, look: int, out: Path) -> Report:
    """The report of a run; its summary is written last, from everything else."""
    files, settings = found.exported.artifact.files, run.settings
    report = Report(
        budget={limit.name: limit.text for limit in run.limits},
        task=run.task.name,
        original=found.measurement.original,
        artifact=found.measurement.artifact,
        source_checkpoint_bytes=settings.source_bytes,
        limits=found.judgement.limits,
        drop=drop,
        fidelity=found.fidelity,
        runtimes=found.measurement.runtimes,
        generalization=found.measurement.generalization,
        files=dict(files),
        verdict=found.judgement.verdict,
        summary="",
        reasons=found.judgement.reasons,
        warnings=found.warnings,
        plan=found.plan,
        planning=found.planning,
        sweep=found.points,
        recovery=found.recovery,
        sites=_sites(found),
        splits={
            "calibration": len(run.split.calibration),
            "search": len(run.split.search),
            "proof": len(run.split.proof),
        },
        looks=_looks(run, found, look),
        environment=environment(),
        seconds=run.seconds,
        command=settings.command
        or python_call("compress(task", run.budget, out=out, seed=settings.seed),
        seed=settings.seed,
    )
    return report.model_copy(update={"summary": summary_sentence(report, _shown(out))})


def _shown(out: Path) -> Path:
    """The folder as a reader elsewhere may see it: no absolute path of this machine."""
    return Path(out.name) if out.is_absolute() else out


def python_call(call: str, budget: Budget, *, out: Path, seed: int = 0) -> str:
    """What repeats a run from Python: `call` is its start, e.g. ``compress(task``."""
    limits = ", ".join(f"{limit.name}={limit.text!r}" for limit in budget.limits)
    more = f", settings=Settings(seed={seed})" if seed else ""
    return f"lilliput.{call}, lilliput.Budget({limits}), out={str(_shown(out))!r}{more})"


def _looks(run: Run, found: Findings, look: int) -> dict[str, int]:
    """How often each subset was used: statistics and gradients, probes and trials, verdicts."""
    search = bool(run.split.search)
    return {
        "calibration": (2 + found.recentred) if run.split.calibration else 0,
        "search": (1 + found.trials + (found.fidelity is not None)) if search else 0,
        "proof": look if run.split.proof else 0,
    }


def _sites(found: Findings) -> tuple[SiteReport, ...]:
    return tuple(_site(found, name) for name in found.profile.sites if name in found.encodings)


def _site(found: Findings, name: str) -> SiteReport:
    known, encoding = found.profile.sites[name], found.encodings[name]
    site = known.site
    stored = _stored_bytes(found, name)
    weight, value = found.profile.matrix(name), site.matrix(encoding.decode())
    relative = None
    if known.second is not None:
        rows = layer_damage(weight, value, known.second)
        output = float(layer_damage(weight, 0 * weight, known.second).sum())
        relative = float(rows.sum()) / output if output else None
    return SiteReport(
        name=name,
        kind=site.kind,
        shape=site.shape,
        encoding=type(encoding).__name__.lower(),
        bits=None if stored is None else 8 * stored / site.size,
        bound_bits=found.profile.bound_bits(name, value),
        original_bytes=site.size * found.profile.parameters[name].element_size(),
        storage_bytes=stored,
        damage=relative,
        sensitivity=known.sensitivity,
        macs=known.macs,
        clipped=sum(p.clipped for p in parts_of(encoding) if isinstance(p, Grid | Grouped)),
    )


def _stored_bytes(found: Findings, name: str) -> int | None:
    """Coded bytes of a site's integers and steps, or of its factors, in the packed file."""
    mine = [
        size
        for tensor, size in found.exported.packed.tensors.items()
        if tensor == name
        or (tensor.startswith(f"{name}.") and tensor[len(name) :] in _PARTS)
        or tensor.startswith(f"{name}.factor")
    ]
    return sum(mine) if mine else None


_PARTS = frozenset({".codes", ".row.zeros", *STEP_SUFFIXES})
