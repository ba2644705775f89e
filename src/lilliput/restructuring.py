"""Structural steps of a plan: taken first, on a copy of the model whose weights change after."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lilliput.errors import PlanError
from lilliput.folders import GRAPH
from lilliput.forms import FixedForm, GraphForm
from lilliput.model.hashes import model_hash
from lilliput.rebuilding import edits_between
from lilliput.records import Plan, Step
from lilliput.runs import Run, captured_graph
from lilliput.shapes.graphmodel import save_graph
from lilliput.shapes.reshaped import Reshaped
from lilliput.techniques import STRUCTURAL, from_step, structural_from_step

BATCH = 32
MOST_EXAMPLES = 256


def split_plan(plan: Plan) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps that change the model's shape, and those that change its weights.

    Raises:
        PlanError: A step on weights comes before one on the shape.
    """
    shaping = [from_step(step).family in STRUCTURAL for step in plan.steps]
    count = sum(shaping)
    if not all(shaping[:count]):
        first = plan.steps[shaping.index(False)]
        raise PlanError(
            f"{first.technique} comes before a step that changes the model's shape",
            "narrow, shorten, replace and grow come first: what weights are for depends on them",
        )
    return plan.steps[:count], plan.steps[count:]


def restructured(run: Run, steps: Sequence[Step], *, scratch: Path) -> Run:
    """The run over a copy of the model in another shape; limits stay shares of the original's.

    Args:
        run: A run whose model was captured as a graph of PyTorch.
        steps: Structural steps, in order; without any the run itself is returned.
        scratch: A folder of its own for the export.

    Raises:
        PlanError: The run has no graph of PyTorch, or works on a part of the model.
        ShapeError: A step was refused.
    """
    if not steps:
        return run
    if not isinstance(run.form, GraphForm) or run.captured.how != "graph" or run.settings.part:
        raise PlanError(
            f"{steps[0].technique} changes the shape of a model, which needs its whole graph",
            "leave part out; an ONNX file and the weights-only path keep their shapes",
        )
    found = reshaped(run, steps)
    scratch.mkdir(parents=True, exist_ok=True)
    task = replace(run.task, model=found.model)
    captured, form, _ = captured_graph(task, run.budget, run.settings, scratch=scratch)
    edits = edits_between(run.task.model, found.model) if found.how == "class" else None
    saved = None if edits else scratch / GRAPH
    if saved is not None:
        save_graph(captured.graph, saved)
    shaped = replace(form, baseline=run.original, edits=edits, saved=saved)
    if isinstance(run.form, FixedForm):
        calibration = run.split.calibration
        shaped = FixedForm.of(shaped, task, calibration=calibration, scratch=scratch)
    return replace(
        run,
        captured=captured,
        form=shaped,
        notes=(*run.notes, *found.notes),
        reshaped=task,
        shaping=tuple(steps),
    )


def reshaped(run: Run, steps: Sequence[Step]) -> Reshaped:
    """A copy of the model after all steps, with what was said on the way."""
    model = copy.deepcopy(run.task.model).eval()
    inputs = run.task.sample(2)
    notes: list[str] = []
    found = Reshaped(model, "class", ())
    for step in steps:
        technique = structural_from_step(step)
        batches = list(calibration_inputs(run))
        found = technique.change(found.model, inputs, where=step.where, batches=batches)
        notes += found.notes
    return replace(found, notes=tuple(dict.fromkeys(notes)))


def calibration_inputs(run: Run) -> Iterator[Any]:
    """Inputs of calibration examples, batch by batch; one batch of examples without any."""
    subset = run.split.calibration[:MOST_EXAMPLES]
    if not subset:
        yield run.task.sample(2)
    for batch in run.task.batches(subset, BATCH):
        yield batch.inputs


def whole_plan(run: Run, plan: Plan) -> Plan:
    """The plan of the weights with the steps before it that gave the model its shape."""
    if not run.shaping:
        return plan
    steps = (*run.shaping, *plan.steps)
    return plan.model_copy(update={"steps": steps, "model_hash": model_hash(run.task.model)})


def weights_plan(run: Run, plan: Plan) -> Plan:
    """The rest of a whole plan, for the model in its new shape."""
    _, rest = split_plan(plan)
    return plan.model_copy(update={"steps": rest, "model_hash": run.captured.model_hash})
