"""Plans that change the model's shape, beside those that keep it: where time or memory is limited.

Every rung of a ladder of changes is made on a copy, exported, timed and asked on search examples.
Weights have to save less once a shape has saved its share; the options of the old shape, under
limits relaxed by that share, predict at what damage. The rung with least damage in sum is planned
for real, with everything profiled and priced anew, and kept if search examples say so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lilliput.errors import CaptureError, InternalError, ShapeError
from lilliput.forms import FixedForm, GraphForm
from lilliput.planned import Compared
from lilliput.planning import Outlook, Planned, bench_of, make_plan, outlook
from lilliput.restructuring import restructured
from lilliput.runs import Run, Settings
from lilliput.runtime.bench import Bench
from lilliput.shapes.widths import shape_of_capture
from lilliput.stages.mixing import Mixture, Targets
from lilliput.stages.option_table import OptionTable
from lilliput.techniques import NarrowSecondOrder, ShortenDrop
from lilliput.trials import Trials

LADDER = (NarrowSecondOrder(remove=0.25), NarrowSecondOrder(remove=0.5), ShortenDrop(blocks=1))
DEEPER = (ShortenDrop(remove=0.5),)  # too much for what all weights do not make up for by learning
WORTH = 0.97  # a shape that saves less than this of the latency is no candidate


@dataclass(frozen=True)
class Structure:
    """One rung: the model in another shape, its weights untouched.

    Attributes:
        run: The run over the model in that shape.
        divergence: From the original, on search examples.
        latency: Of one call, as a share of the original's.
        memory: Bytes resident, as a share of the original's.
        size: Bytes of the file, as a share of the original's.
    """

    run: Run
    divergence: float
    latency: float
    memory: float
    size: float

    @property
    def name(self) -> str:
        """Its steps, in words."""
        return " then ".join(
            " ".join([step.technique, *(f"{k} {v}" for k, v in step.settings.items())])
            for step in self.run.shaping
        )

    def relaxed(self, targets: Targets) -> Targets:
        """What is left to the weights: the limits, divided by what the shape saved of each."""
        shares = {"storage": self.size, "installed": self.size}
        shares |= {"latency": self.latency, "memory": self.memory}
        asked = {name: getattr(targets, name) for name in shares}
        found = {name: asked[name] / share for name, share in shares.items() if asked[name]}
        return replace(targets, **found)


def plan_with_shapes(
    run: Run,
    trials: Trials,
    *,
    table: OptionTable,
    scratch: Path,
    anew: Callable[[Run], Trials],
) -> tuple[Run, Trials, Planned]:
    """The best plan inside the run's limits, of those that keep the shape and those that do not.

    Args:
        run: Limits, model, settings.
        trials: Tries plans for the model in its own shape.
        table: Options of that shape.
        scratch: An existing folder.
        anew: Profiles the model of another run, and tries plans for that.

    Raises:
        UnreachableError: A limit is out of reach in every shape.
    """
    if not (run.priced_limits and _can_change(run) and trials.search):
        return run, trials, make_plan(run, trials, table=table, scratch=scratch)
    first = outlook(run, trials, table=table, scratch=scratch)
    rungs = list(_rungs(run, trials, first, scratch=scratch))
    best = _most_promising(rungs, first, table)
    if best is not None:
        other = anew(best.run)
        options = OptionTable(other.profile)
        second = outlook(best.run, other, table=options, scratch=scratch)
        if _better(second, other, than=first, before=trials):
            return best.run, other, _told(second, rungs)
    if first.planned is None:
        raise first.unreachable or InternalError("no plan and no reason")
    return run, trials, _told(first, rungs)


def _can_change(run: Run) -> bool:
    graph = isinstance(run.form, GraphForm) and not isinstance(run.form, FixedForm)
    return graph and run.captured.how == "graph" and not run.settings.part


def _rungs(run: Run, trials: Trials, first: Outlook, *, scratch: Path) -> Iterator[Structure]:
    """Every rung that can be made and that saves something."""
    neutral = _neutral(run)
    ladder = ladder_of(run.settings)
    with bench_of(run, scratch) as bench:
        for number, technique in enumerate(ladder):
            run.settings.progress("shapes", number, len(ladder))
            step = technique.step_of(neutral if technique.family == "narrow" else ())
            try:
                changed = restructured(run, [step], scratch=scratch / f"shape-{number}")
            except (ShapeError, CaptureError):
                continue
            found = _measured(changed, trials, bench, first.prices.original_bytes)
            if found.latency < WORTH or found.memory < WORTH:
                yield found
    run.settings.progress("shapes", len(ladder), len(ladder))


def ladder_of(settings: Settings) -> tuple[NarrowSecondOrder | ShortenDrop, ...]:
    """The changes that are tried: more where all weights learn to make up for them."""
    recover = settings.recover
    return LADDER + DEEPER if recover is not None and recover.strength == "full" else LADDER


def _neutral(run: Run) -> tuple[str, ...]:
    """Widths of which a part can go without any norm computing something else; else all."""
    widths = shape_of_capture(run.captured).widths.values()
    return tuple(width.name for width in widths if width.free and not width.norms)


def _measured(run: Run, trials: Trials, bench: Bench, original_bytes: float) -> Structure:
    if not isinstance(run.form, GraphForm):
        raise InternalError("only graphs change their shape")
    memory, latency = bench.measure(run.form.graph)
    size = run.form.graph.stat().st_size / run.original.stat().st_size
    return Structure(run, trials.moved(run.subject), latency, memory / original_bytes, size)


def _most_promising(
    rungs: Sequence[Structure], first: Outlook, table: OptionTable
) -> Structure | None:
    """The rung with least predicted damage in sum; None where keeping the shape has less."""
    kept = np.inf if first.planned is None else first.planned.plan.predicted_damage or 0.0
    sums = [(rung.divergence + _rest(rung, first, table), rung) for rung in rungs]
    least, best = min(sums, key=lambda pair: pair[0], default=(np.inf, None))
    return best if least < kept else None


def _rest(rung: Structure, first: Outlook, table: OptionTable) -> float:
    """Predicted damage to the weights under what the shape leaves to them."""
    mixture = Mixture.of(table, rung.relaxed(first.targets), costs=first.prices)
    picks = mixture.solve()
    return mixture.plan(picks).predicted_damage or 0.0 if picks else np.inf


def _better(second: Outlook, other: Trials, *, than: Outlook, before: Trials) -> bool:
    if second.planned is None:
        return False
    if than.planned is None:
        return True
    return other.divergence(second.planned.plan) < before.divergence(than.planned.plan)


def _told(found: Outlook, rungs: Sequence[Structure]) -> Planned:
    """The plan, with the shapes that were tried named in how it was found."""
    if found.planned is None or found.planned.planning is None:
        raise InternalError("an outlook without a plan was chosen")
    planning = found.planned.planning
    shapes = [
        Compared(name=rung.name, predicted=None, divergence=rung.divergence) for rung in rungs
    ]
    told = planning.model_copy(update={"compared": (*planning.compared, *shapes)})
    return replace(found.planned, planning=told)
