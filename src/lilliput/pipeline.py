"""READ THIS FIRST: `compress()` is the verbs in a straight line.

profile -> plan -> apply -> recover -> export -> measure -> judge -> report
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lilliput.budget import Amount, Budget
from lilliput.errors import BudgetError
from lilliput.evidence import Evidence
from lilliput.findings import Findings, assemble, python_call
from lilliput.folders import PACKED, fresh_folder
from lilliput.forms import GraphForm
from lilliput.fronts import make_front, sweep_budgets, write_points
from lilliput.ledger import Look
from lilliput.model.encodings import Encoding
from lilliput.model.hashes import model_hash
from lilliput.model.profiles import Profile
from lilliput.planning import Planned, with_predictions
from lilliput.records import Fidelity, Plan, Report, Step
from lilliput.recovered import squeezing_plan, with_recovery
from lilliput.restructuring import restructured, split_plan, weights_plan, whole_plan
from lilliput.runs import Run, Settings, prepare
from lilliput.runtime.factor_speed import FactorSpeed
from lilliput.runtime.processes import Worker
from lilliput.stages.apply import check_fits, check_steps
from lilliput.stages.export import Exported
from lilliput.stages.forecast import Claim, forecast
from lilliput.stages.judge import ONLY_LOOK, judge, with_summaries
from lilliput.stages.measure import measure, typical_batch
from lilliput.stages.option_table import OptionTable
from lilliput.stages.profile import observed, probed
from lilliput.stages.recentre import Recentring
from lilliput.stages.report import report
from lilliput.stages.unfactor import must_be_faster, unfactored
from lilliput.stages.verify import verify_answers
from lilliput.structures import plan_with_shapes
from lilliput.task import Task
from lilliput.techniques import from_step
from lilliput.trials import Trials

FIDELITY_EXAMPLES = 64


def compress(
    task: Task,
    budget: Budget | None = None,
    *,
    out: str | Path,
    settings: Settings | None = None,
    sweep: Sequence[Amount] = (),
) -> Report:
    """Makes the model fit the budget and states, with an error bar, what that cost.

    Args:
        task: What must keep working. Its model is not changed.
        budget: The limits; by default a drop of at most 1 %.
        out: Folder for the files and the report; it may not exist yet.
        settings: Everything else.
        sweep: Storage limits, each of which becomes a point of the report's front, with a plan
            beside the report; the budget's limits choose the point that is shipped and judged.

    Returns:
        The report, as written to ``out/report.json``.

    Raises:
        InputError: Bad input: see the tree in `lilliput.errors`.
        InternalError: A promise of ours was broken.
    """
    out, settings, budget = Path(out), settings or Settings(), budget or Budget()
    budgets = sweep_budgets(budget, sweep) if sweep else {}
    if sweep and settings.arithmetic == "fixed":
        raise BudgetError(
            "sweep does not go with arithmetic fixed, which has one width for all sites",
            "give storage or installed instead; float32 and int8 take a sweep",
        )
    if sweep and not settings.command:
        call = python_call("compress(task", budget, out=out, seed=settings.seed)
        settings = replace(settings, command=f"{call[:-1]}, sweep={tuple(budgets)})")
    with (
        fresh_folder(out, force=settings.force) as folder,
        tempfile.TemporaryDirectory(prefix="lilliput-") as scratch,
    ):
        run = prepare(task, budget, settings, Path(scratch))
        _tell_forecast(run, out)
        known = run.clock("profile", lambda: _profile(run))
        trials = _trials(run, known)
        settings.progress("plan", 0, 1)
        run, trials, chosen = run.clock(
            "plan", partial(_planned, run, trials, budgets, Path(scratch))
        )
        run, chosen = _faster(run, trials, chosen)
        run.clock("apply", lambda: trials.encodings(chosen.plan))
        return _prove(run, trials, _recovered(run, trials, chosen, out=out), folder=folder, out=out)


def apply_plan(
    plan: Plan,
    task: Task,
    budget: Budget | None = None,
    *,
    out: str | Path,
    settings: Settings | None = None,
) -> Report:
    """Replays a plan on a task: recalibrates, exports, measures and judges anew.

    Args:
        plan: From an earlier run, for a model of the same architecture.
        task: What must keep working; another checkpoint is welcome.
        budget: The limits to judge; by default a drop of at most 1 %.
        out: Folder for the files and the report.
        settings: Everything else; the plan's own seed is used.

    Raises:
        PlanError: The plan does not fit the model, or a step of it is wrong.
    """
    check_fits(plan, model_hash(task.model))
    shaping, steps, learning = split_plan(plan)
    check_steps(steps)
    out, settings, budget = Path(out), settings or Settings(), budget or Budget()
    command = settings.command or python_call("apply_plan(plan, task", budget, out=out)
    settings = replace(settings, seed=plan.seed, command=command)
    with (
        fresh_folder(out, force=settings.force) as folder,
        tempfile.TemporaryDirectory(prefix="lilliput-") as scratch,
    ):
        run = prepare(task, budget, settings, Path(scratch))
        run = run.clock(
            "reshape", partial(restructured, run, shaping, scratch=Path(scratch) / "shape")
        )
        check_steps(steps, run.captured.sites)
        _tell_forecast(run, out)
        plan = weights_plan(run, plan)
        known = run.clock("profile", lambda: _profile(run, plan))
        trials = _trials(run, known)
        run, given = _faster(run, trials, Planned(plan))
        run.clock("apply", lambda: trials.encodings(given.plan))
        given = _recovered(run, trials, given, out=out, step=learning)
        return _prove(run, trials, given, folder=folder, out=out)


def _tell_forecast(run: Run, out: Path) -> None:
    drop = next((limit for limit in run.limits if limit.name == "drop"), None)
    look = ONLY_LOOK
    if run.split.proof:
        look = run.ledger(out).peek(run.task.proof_hash(run.split.proof))
    told = forecast(run.task, run.captured, run.split, Claim(run.metric, drop, look))
    for line in told.lines:
        run.settings.said(f"Forecast: {line}")


def _profile(run: Run, given: Plan | None = None) -> Profile:
    """Everything; for a plan that is given, sensitivities only where its steps compare sites."""
    told = run.settings.progress
    known = observed(
        run.subject,
        run.captured,
        split=run.split,
        folding=run.form.folding,
        seed=run.settings.seed,
        progress=told,
    )
    every = given is None or any(from_step(step).joint for step in given.steps)
    return probed(run.subject, known, split=run.split, every=every, progress=told)


def _trials(run: Run, known: Profile) -> Trials:
    return Trials(
        task=run.subject,
        profile=known,
        form=run.form,
        metric=run.metric,
        search=run.split.search,
        proof_size=len(run.split.proof),
        relative=bool(run.allowed_drop and run.allowed_drop[1]),
        recentring=Recentring.of(run.subject, known, split=run.split, original=run.task),
        original=run.task,
        runtime=run.settings.conditions.runtime,
    )


def _faster(run: Run, trials: Trials, planned: Planned) -> tuple[Run, Planned]:
    """The plan without products that do not pay, where they have to pay in time; and why."""
    if not must_be_faster(run.limits) or not isinstance(run.form, GraphForm):
        return run, planned
    conditions = run.settings.conditions
    opened = partial(
        Worker,
        threads=conditions.threads,
        timeout=conditions.timeout,
        runtime=conditions.runtime,
    )
    arrays = typical_batch(run.task, run.split.search, size=conditions.batch)
    speed = FactorSpeed(run.form.bindings, arrays, opened)
    chosen, said = unfactored(planned.plan, trials.encodings, speed=speed)
    return replace(run, notes=(*run.notes, *said)), replace(planned, plan=chosen)


def _planned(
    run: Run, trials: Trials, budgets: Mapping[str, Budget], scratch: Path
) -> tuple[Run, Trials, Planned]:
    """The plan, and the run and trials it is for: the model may have got another shape."""
    recover = run.settings.recover
    if recover is not None and recover.squeeze:
        return run, trials, squeezing_plan(run, trials)
    table = OptionTable(trials.profile)
    if budgets:
        front = make_front(run, trials, table=table, budgets=budgets, scratch=scratch)
        return run, trials, front

    def anew(changed: Run) -> Trials:
        return _trials(changed, _profile(changed))

    return plan_with_shapes(run, trials, table=table, scratch=scratch, anew=anew)


def _recovered(
    run: Run, trials: Trials, planned: Planned, *, out: Path, step: Step | None = None
) -> Planned:
    """The plan after recovery, where that was asked for."""
    if step is None and run.settings.recover is None:
        return planned
    keep = out.with_name(f".{out.name}.recovery")
    work = partial(with_recovery, run, trials, planned=planned, keep=keep, step=step)
    return run.clock("recover", work)


def _prove(run: Run, trials: Trials, planned: Planned, *, folder: Path, out: Path) -> Report:
    """Export, measure, judge, report: the same for every way to a plan."""
    settings, known, plan = run.settings, trials.profile, planned.plan
    encodings = trials.encodings(plan)
    settings.progress("export", 0, 1)
    whole = whole_plan(run, plan)
    exported = run.clock("export", lambda: run.form.export(encodings, plan=whole, folder=folder))
    settings.progress("measure", 0, 1)
    measurement, evidence = run.clock(
        "measure",
        lambda: measure(
            run.original,
            folder,
            task=run.task,
            proof=run.split.proof,
            conditions=settings.conditions,
            progress=settings.progress,
        ),
    )
    settings.progress("judge", 0, 1)
    fidelity = None
    if measurement.problem is None:
        fidelity = _fidelity(run, exported, encodings, folder)
    look = _look(run, evidence, exported, out)
    judgement = judge(
        run.limits,
        measurement,
        evidence=evidence,
        metric=run.metric,
        look=look,
        seed=settings.seed,
    )
    run.check_untouched()
    drop = judgement.drop and with_summaries(judgement.drop, run.task.summary)
    planning = with_predictions(planned, trials, measured=measurement.artifact)
    found = Findings(
        profile=known,
        plan=whole,
        planning=planning,
        points=tuple(point for point, _ in planned.points),
        recovery=planned.recovery,
        encodings=encodings,
        exported=exported,
        measurement=measurement,
        judgement=judgement,
        fidelity=fidelity,
        warnings=tuple(
            dict.fromkeys((*run.task.notes, *run.notes, *known.warnings, *exported.warnings))
        ),
        trials=trials.asked,
        recentred=trials.recentring is not None,
    )
    result = assemble(run, found, drop=drop, look=look.number, out=out)
    settings.progress("report", 0, 1)
    write_points(planned.points, folder)
    report(result, folder)
    return result


def _fidelity(
    run: Run, exported: Exported, encodings: Mapping[str, Encoding], folder: Path
) -> Fidelity | None:
    """PyTorch's compressed model against the artifact; the weights-only path is PyTorch itself."""
    subset = run.split.search[:FIDELITY_EXAMPLES]
    if not subset or exported.artifact.kind != "onnx":
        return None
    return verify_answers(
        folder,
        run.subject,
        encodings=encodings,
        subset=subset,
        runtime=run.settings.conditions.runtime,
    )


def _look(run: Run, evidence: Evidence | None, exported: Exported, out: Path) -> Look:
    """Taken before anything is shown; the same file again is no new look."""
    if evidence is None:
        return ONLY_LOOK
    shipped = exported.artifact.files[PACKED].sha256
    return run.ledger(out).look(evidence.proof_hash, shipped)
