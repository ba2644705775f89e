"""From a profile to the plan that is shipped: prices where they are needed, then the search."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lilliput.errors import InternalError, UnreachableError
from lilliput.forms import FixedForm, GraphForm
from lilliput.planned import Planning, Point, Prediction
from lilliput.records import Plan, Recovery, Sizes
from lilliput.runs import Run
from lilliput.runtime.bench import Bench
from lilliput.search.improving import improve
from lilliput.stages.measure import typical_batch
from lilliput.stages.mixing import Mixture, Targets
from lilliput.stages.option_table import OptionTable
from lilliput.stages.plan import plan
from lilliput.stages.plan_fixed import plan_fixed
from lilliput.stages.price import Subject, price
from lilliput.stages.prices import Prices
from lilliput.trials import Trials

ONE_TECHNIQUE = "the limits are used up, and for bytes alone one technique is best everywhere"

WIDEST = "fixed point has one width for all sites, and this is the widest that fits"


@dataclass(frozen=True)
class Planned:
    """A plan and how it was found.

    Attributes:
        plan: What to do.
        planning: Why planning ended and what was tried; None where the plan was given.
        points: Of a sweep, each with its plan.
        recovery: What was learned back; None where that was not asked for.
    """

    plan: Plan
    planning: Planning | None = None
    points: tuple[tuple[Point, Plan], ...] = ()
    recovery: Recovery | None = None


@dataclass(frozen=True)
class Outlook:
    """What is known of limits on memory and latency once options were priced.

    Attributes:
        planned: The best plan; None where nothing fits.
        unreachable: Why nothing fits.
        prices: Of all options on this machine.
        targets: The limits in bytes and milliseconds.
    """

    planned: Planned | None
    unreachable: UnreachableError | None
    prices: Prices
    targets: Targets


def make_plan(run: Run, trials: Trials, *, table: OptionTable, scratch: Path) -> Planned:
    """The best plan inside the run's limits.

    Args:
        run: Limits, model, settings.
        trials: Tries plans.
        table: Options, shared by all plans of one profile.
        scratch: An existing folder.

    Raises:
        UnreachableError: A limit is out of reach.
    """
    if isinstance(run.form, FixedForm):
        seed = run.settings.seed
        chosen = plan_fixed(trials.profile, run.targets, sizes=trials.sizes, seed=seed)
        return Planned(chosen, Planning(stopped=WIDEST))
    if not run.priced_limits:
        return _for_bytes(run, trials, table, run.targets)
    found = outlook(run, trials, table=table, scratch=scratch)
    if found.planned is None:
        raise found.unreachable or InternalError("no plan and no reason")
    return found.planned


def outlook(run: Run, trials: Trials, *, table: OptionTable, scratch: Path) -> Outlook:
    """The best plan inside limits that have to be priced, or why there is none.

    Args:
        run: As for `make_plan`; some of its limits are priced.
        trials: As for `make_plan`.
        table: As for `make_plan`.
        scratch: As for `make_plan`.
    """
    with _priced(run, trials, table, scratch) as (targets, prices):
        mixture = Mixture.of(table, targets, costs=prices, seed=run.settings.seed)
        try:
            found = improve(mixture, trials)
        except UnreachableError as error:
            return Outlook(None, error, prices, targets)
    planning = Planning(
        stopped=found.stopped,
        tried=found.tried,
        compared=tuple(found.compared),
        pricing_error=prices.error,
    )
    return Outlook(Planned(found.plan, planning), None, prices, targets)


def _for_bytes(run: Run, trials: Trials, table: OptionTable, targets: Targets) -> Planned:
    chosen = plan(trials.profile, targets, evaluate=trials, table=table, seed=run.settings.seed)
    return Planned(chosen, Planning(stopped=ONE_TECHNIQUE, tried=trials.asked))


@contextmanager
def _priced(
    run: Run, trials: Trials, table: OptionTable, scratch: Path
) -> Iterator[tuple[Targets, Prices]]:
    """The limits in bytes and milliseconds of this machine, while plans can be metered."""
    form = run.form
    if not isinstance(form, GraphForm):
        raise InternalError("only graphs are priced")
    limited = tuple(limit.name for limit in run.limits if limit.name != "drop")
    with bench_of(run, scratch) as bench:
        subject = Subject(
            profile=trials.profile,
            candidates=table.candidates(limited),
            graph=form.graph,
            readers=form.readers,
            write=form.write,
            label=f"{form.arithmetic}{run.original.stat().st_size if run.reshaped else ''}",
        )
        prices = run.clock(
            "price",
            lambda: price(subject, bench, seed=run.settings.seed, progress=run.settings.progress),
        )

        def meter(path: Path) -> tuple[float, float]:
            memory, share = bench.measure(path)
            return memory, share * prices.original_ms

        trials.meter = meter
        try:
            yield run.priced(prices.original_bytes, prices.original_ms), prices
        finally:
            trials.meter = None


def bench_of(run: Run, scratch: Path) -> Bench:
    """Where this run's files are timed: its batch, threads and runtime."""
    conditions = run.settings.conditions
    arrays = typical_batch(run.task, run.split.proof, size=conditions.batch)
    return Bench(run.original, arrays, scratch, conditions.threads, conditions.runtime)


def with_predictions(planned: Planned, trials: Trials, *, measured: Sizes) -> Planning | None:
    """What was predicted of the plan beside what was measured of its files."""
    if planned.planning is None:
        return None
    chosen = planned.plan
    divergence = trials.divergence(chosen) if chosen.predicted_damage is not None else None
    latency = None if measured.latency_ms is None else measured.latency_ms.p50
    pairs = (
        ("divergence", chosen.predicted_damage, divergence),
        ("storage", chosen.predicted_storage_bytes, measured.storage_bytes),
        ("installed", chosen.predicted_installed_bytes, measured.installed_bytes),
        ("memory", chosen.predicted_memory_bytes, measured.memory_bytes),
        ("latency", chosen.predicted_latency_ms, latency),
    )
    found = (Prediction(name=n, predicted=p, measured=m) for n, p, m in pairs if p is not None)
    return planned.planning.model_copy(update={"predictions": tuple(found)})
