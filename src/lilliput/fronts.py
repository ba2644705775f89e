"""Several budgets from one profile: a point for each, their front, and one that is chosen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from lilliput.budget import Amount, Budget, parse_limit
from lilliput.errors import BudgetError, UnreachableError
from lilliput.forms import GraphForm
from lilliput.planned import Planning, Point
from lilliput.planning import Planned, bench_of, make_plan
from lilliput.plans import plan_to_toml
from lilliput.records import Plan
from lilliput.runs import Run
from lilliput.stages.option_table import OptionTable
from lilliput.tensor.choosing import undominated
from lilliput.trials import Trials

LATENCY_NOISE = 0.05  # latencies this close, as a share of the original's, count as equal
Latency = Callable[[Plan], float | None]


def sweep_budgets(budget: Budget, amounts: Sequence[Amount]) -> dict[str, Budget]:
    """One budget per amount of storage, by what it is called; the other limits stay.

    Raises:
        BudgetError: An amount is no storage limit, or storage is limited as well.
    """
    if budget.limit("storage") is not None:
        raise BudgetError(
            "storage and sweep exclude each other",
            "the sweep's amounts are the storage limits; other limits choose among its points",
        )
    if isinstance(amounts, str):
        raise BudgetError(f"sweep {amounts!r} is one text", 'give several: ("6%", "9%", "12%")')
    given = {limit.name: limit.text for limit in budget.limits if limit.name != "drop"}
    found = {}
    for amount in amounts:
        try:
            limit = parse_limit("storage", amount)
        except BudgetError as error:
            raise BudgetError(f"sweep: {error.message}", error.hint) from error
        found[limit.text] = Budget(**given, storage=limit.text)
    return found


def make_front(
    run: Run,
    trials: Trials,
    *,
    table: OptionTable,
    budgets: Mapping[str, Budget],
    scratch: Path,
) -> Planned:
    """A plan per budget, each measured on real files and search examples; the best one chosen.

    Only search examples are asked: the proof examples are left to the chosen plan.

    Args:
        run: The limits that choose, and everything else.
        trials: Tries plans.
        table: Options, shared by all plans.
        budgets: Name of a point -> its limits.
        scratch: An existing folder.

    Raises:
        UnreachableError: No budget can be met.
    """
    candidates: list[tuple[Point, Plan]] = []
    missed: list[UnreachableError] = []
    with _timed(run, trials, scratch) as latency:
        for number, (name, budget) in enumerate(budgets.items()):
            run.settings.progress("sweep", number, len(budgets))
            try:
                planned = make_plan(
                    replace(run, budget=budget), trials, table=table, scratch=scratch
                )
            except UnreachableError as error:
                run.settings.said(f"Sweep {name}: {error.message}")
                missed.append(error)
                continue
            candidates.append(
                (_point(trials, name, plan=planned.plan, latency=latency), planned.plan)
            )
    if not candidates:
        raise missed[-1]
    places = _front([point for point, _ in candidates])
    best = min(range(len(candidates)), key=lambda n: _rank(run, candidates[n][0]))
    points = tuple(
        (point.model_copy(update={"on_front": n in places, "chosen": n == best}), plan)
        for n, (point, plan) in enumerate(candidates)
    )
    planning = Planning(
        stopped=f"all {len(budgets)} budgets of the sweep were tried", tried=trials.asked
    )
    return Planned(points[best][1], planning, points)


def write_points(points: Sequence[tuple[Point, Plan]], folder: Path) -> None:
    """Each point's plan beside the report, under the name that the point gives."""
    for point, plan in points:
        (folder / point.plan).write_text(plan_to_toml(plan), encoding="utf-8")


@contextmanager
def _timed(run: Run, trials: Trials, scratch: Path) -> Iterator[Latency]:
    """Milliseconds of a plan's file; None where there is no graph to run."""
    if not isinstance(run.form, GraphForm):
        yield lambda plan: None
        return
    with bench_of(run, scratch) as bench:

        def latency(plan: Plan) -> float:
            path = scratch / "point.onnx"
            run.form.write(trials.encodings(plan), path)
            return bench.measure(path)[1] * bench.original_ms

        yield latency


def _point(trials: Trials, name: str, *, plan: Plan, latency: Latency) -> Point:
    sizes = trials.sizes(plan)
    moved, drop = trials.divergence(plan), trials.expected_drop(plan)
    return Point(
        name=name,
        plan=f"plan-{name.replace('%', '-percent').replace('.', '_')}.toml",
        storage_bytes=sizes.storage,
        installed_bytes=sizes.installed,
        latency_ms=latency(plan),
        divergence=moved if np.isfinite(moved) else None,
        predicted_divergence=plan.predicted_damage,
        expected_drop=drop if np.isfinite(drop) else None,
    )


def _front(points: Sequence[Point]) -> set[int]:
    """Places of the points that no other beats in storage, latency and divergence."""
    fastest = max((p.latency_ms or 0.0 for p in points), default=0.0) or 1.0
    costs = [
        (
            p.storage_bytes,
            round((p.latency_ms or 0.0) / fastest / LATENCY_NOISE),
            np.inf if p.divergence is None else p.divergence,
        )
        for p in points
    ]
    return set(undominated(np.array(costs, float)).tolist())


def _rank(run: Run, point: Point) -> tuple[bool, float, float]:
    """Points that keep the drop go first, then the objective decides.

    Least storage where only the drop is limited, else least divergence.
    """
    allowed = run.targets.drop
    expected = np.inf if point.expected_drop is None else point.expected_drop
    missed = allowed is not None and expected > allowed
    if missed:
        return True, expected, point.storage_bytes
    moved = np.inf if point.divergence is None else point.divergence
    small = run.budget.objective == "least storage"
    return False, point.storage_bytes if small else moved, point.storage_bytes
