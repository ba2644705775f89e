"""Structural steps of a plan: taken first, on a copy of the model whose weights change after."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lilliput.errors import PlanError
from lilliput.folders import GRAPH
from lilliput.forms import FixedForm, GraphForm
from lilliput.model.hashes import model_hash
from lilliput.rebuilding import edits_between
from lilliput.records import Plan, Step
from lilliput.reshaping.files import calibration_inputs
from lilliput.reshaping.shrink import taken
from lilliput.runs import Run, captured_graph
from lilliput.shapes.graphmodel import save_graph
from lilliput.techniques import LEARNING, STRUCTURAL, from_step


def split_plan(plan: Plan) -> tuple[tuple[Step, ...], tuple[Step, ...], Step | None]:
    """The steps that change the model's shape, those that change its weights, and recovery.

    Raises:
        PlanError: A step on weights comes before one on the shape, or something after recovery.
    """
    learning = [from_step(step).family in LEARNING for step in plan.steps]
    if any(learning[:-1]):
        raise PlanError(
            f"{plan.steps[learning.index(True)].technique} is not the last step",
            "what steps before it made of the weights is trained; nothing can come after",
        )
    given = plan.steps[:-1] if any(learning) else plan.steps
    shaping = [from_step(step).family in STRUCTURAL for step in given]
    count = sum(shaping)
    if not all(shaping[:count]):
        first = given[shaping.index(False)]
        raise PlanError(
            f"{first.technique} comes before a step that changes the model's shape",
            "narrow, shorten, replace and grow come first: what weights are for depends on them",
        )
    return given[:count], given[count:], plan.steps[-1] if any(learning) else None


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
    found = taken(
        run.task.model,
        run.task.sample(2),
        steps=steps,
        batches=calibration_inputs(run.task, run.split),
    )
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


def whole_plan(run: Run, plan: Plan) -> Plan:
    """The plan of the weights with the steps before it that gave the model its shape."""
    if not run.shaping:
        return plan
    steps = (*run.shaping, *plan.steps)
    return plan.model_copy(update={"steps": steps, "model_hash": model_hash(run.task.model)})


def weights_plan(run: Run, plan: Plan) -> Plan:
    """The steps on weights of a whole plan, for the model in its new shape."""
    _, rest, _ = split_plan(plan)
    return plan.model_copy(update={"steps": rest, "model_hash": run.captured.model_hash})
