"""A changed model as a folder: an ONNX file that any runtime opens, and weights to go on with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lilliput.batches import flatten_inputs, flatten_tensors
from lilliput.coding import pack
from lilliput.continuing import save_weights
from lilliput.environment import versions
from lilliput.folders import (
    GRAPH,
    MANIFEST,
    PACKED,
    PLAN,
    RUNNABLE,
    WEIGHTS,
    file_entry,
)
from lilliput.model.calls import run_with
from lilliput.model.capture import capture
from lilliput.model.exporting import FAILURES
from lilliput.model.hashes import model_hash
from lilliput.plans import plan_to_toml
from lilliput.rebuilding import edits_between
from lilliput.records import Artifact, Plan, Step
from lilliput.runtime.onnx_export import Dynamic, export_original
from lilliput.runtime.sessions import default_session, run_session
from lilliput.shapes.graphmodel import save_graph
from lilliput.shapes.reshaped import Reshaped


@dataclass(frozen=True)
class Saved:
    """What was written.

    Attributes:
        artifact: The manifest.
        difference: Largest difference of the changed ONNX file's outputs from the original
            model's, over the largest of those, as far as both go; None where the original does not
            take the same inputs, or answers in another shape.
        reloads: Whether `lilliput.load` gives an instance of the user's class this shape; else it
            gives the captured graph.
    """

    artifact: Artifact
    difference: float | None
    reloads: bool


def save_reshaped(
    found: Reshaped,
    original: nn.Module,
    *,
    inputs: Any,
    steps: Sequence[Step],
    folder: Path,
    dynamic: Dynamic | None = None,
) -> Saved:
    """Writes the runnable and the packed file, the weights, the plan and the manifest.

    Args:
        found: The changed model.
        original: What it was made of.
        inputs: One example batch that the changed model takes.
        steps: What was done.
        folder: An existing empty folder (see `lilliput.folders.fresh_folder`).
        dynamic: Axes beside the batch that vary, as in `export_original`.

    Raises:
        CaptureError: The changed model cannot be exported, or its file answers otherwise.
        OutputError: The folder may not be written.
    """
    edits = edits_between(original, found.model) if found.how == "class" else None
    exported = export_original(found.model, inputs, folder / RUNNABLE, dynamic=dynamic)
    pack(folder / RUNNABLE, folder / PACKED)
    save_weights(found.model.state_dict(), folder / WEIGHTS)
    names = [RUNNABLE, PACKED, WEIGHTS, PLAN]
    if edits is None:
        names.append(GRAPH)
        save_graph(capture(found.model, inputs, dynamic=dynamic).graph, folder / GRAPH)
    plan = Plan(model_hash=model_hash(original), steps=tuple(steps))
    (folder / PLAN).write_text(plan_to_toml(plan), encoding="utf-8")
    artifact = Artifact(
        files={name: file_entry(folder / name) for name in names},
        inputs=exported.inputs,
        outputs=exported.outputs,
        edits=edits,
        plan=plan,
        versions=versions(),
    )
    text = artifact.model_dump_json(indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    difference = _difference(folder / RUNNABLE, exported.inputs, original, inputs=inputs)
    return Saved(artifact, difference=difference, reloads=edits is not None)


def _difference(
    path: Path, names: Sequence[str], original: nn.Module, *, inputs: Any
) -> float | None:
    """How far the file's answers are from the original model's, as far as both go."""
    answers = run_session(
        default_session(path), dict(zip(names, flatten_inputs(inputs), strict=True))
    )
    try:
        wanted = [one.numpy() for one in flatten_tensors(run_with(original, {}, inputs))]
    except FAILURES:
        return None
    worst = 0.0
    for answer, want in zip(answers, wanted, strict=True):
        part = answer[tuple(map(slice, want.shape))].astype(np.float64)
        if part.shape != want.shape:
            return None
        scale = float(np.abs(want).max(initial=0)) or 1.0
        worst = max(worst, float(np.abs(part - want).max(initial=0)) / scale)
    return worst
