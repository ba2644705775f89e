"""export: the compressed weights become files."""

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lilliput.coding import PackStats, pack
from lilliput.continuing import save_weights
from lilliput.edits import Edits
from lilliput.environment import versions
from lilliput.errors import InternalError
from lilliput.folders import CODES, GRAPH, MANIFEST, PACKED, PLAN, RUNNABLE, WEIGHTS, file_entry
from lilliput.model.encodings import Encoding
from lilliput.plans import plan_to_toml
from lilliput.records import Artifact, FileEntry, FixedPort, Plan
from lilliput.runtime.onnx_bind import Bindings
from lilliput.runtime.onnx_encode import Arithmetic, write_encodings
from lilliput.runtime.onnx_fixed import write_fixed
from lilliput.runtime.torch_processes import stored_state
from lilliput.runtime.weights_file import write_weights


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        artifact: The manifest.
        warnings: What could not be put into the file, one line each.
        packed: Coded bytes per tensor.
    """

    artifact: Artifact
    warnings: tuple[str, ...]
    packed: PackStats


def export(
    bindings: Bindings,
    encodings: Mapping[str, Encoding],
    *,
    model: nn.Module | None,
    plan: Plan,
    folder: Path,
    arithmetic: Arithmetic = "float32",
) -> Exported:
    """Writes runnable file, packed file, PyTorch weights, plan and manifest.

    Args:
        bindings: Where the parameters lie in the original's ONNX export.
        encodings: Parameter -> what became of it: the sites, and `Dense` for every other parameter
            with a new value.
        model: The user's model, which keeps its own weights; None where the user came with an ONNX
            file: then there are no weights for PyTorch.
        plan: What was done.
        folder: An existing empty folder (see `lilliput.folders.fresh_folder`).
        arithmetic: See `write_encodings`.

    Raises:
        OutputError: A file cannot be written.
    """
    warnings = write_encodings(bindings, encodings, folder / RUNNABLE, arithmetic=arithmetic)
    ports = {"inputs": bindings.original.inputs, "outputs": bindings.original.outputs}
    return _export_graph(ports, encodings, warnings, model=model, plan=plan, folder=folder)


def export_fixed(
    bindings: Bindings,
    encodings: Mapping[str, Encoding],
    *,
    batches: Iterable[Sequence[np.ndarray]],
    model: nn.Module | None,
    plan: Plan,
    folder: Path,
) -> Exported:
    """The same with a runnable file of integers only; the manifest says what they stand for.

    Args:
        bindings: As for `export`.
        encodings: As for `export`.
        batches: Calibration inputs, which say how large activations are.
        model: As for `export`.
        plan: As for `export`.
        folder: As for `export`.

    Raises:
        InputError: Fixed point does not take an operator of the model.
        OutputError: A file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
        source = Path(scratch) / RUNNABLE
        warnings = write_encodings(bindings, encodings, source)
        fixed = write_fixed(source, folder / RUNNABLE, batches=batches)
    ports: dict[str, Any] = {
        "inputs": bindings.original.inputs,
        "outputs": bindings.original.outputs,
        "fixed": fixed,
    }
    told = [_integers_told(port, port.name in bindings.original.inputs) for port in fixed]
    return _export_graph(
        ports, encodings, [*warnings, *told], model=model, plan=plan, folder=folder
    )


def with_shape(
    exported: Exported, *, edits: Edits | None, graph: Path | None, folder: Path
) -> Exported:
    """The manifest, with what gives an instance of the user's class its new shape, or its graph."""
    if edits is None and graph is None:
        return exported
    files = dict(exported.artifact.files)
    if graph is not None:
        shutil.copyfile(graph, folder / GRAPH)
        files[GRAPH] = file_entry(folder / GRAPH)
    artifact = exported.artifact.model_copy(update={"edits": edits, "files": files})
    _write_manifest(artifact, folder)
    return replace(exported, artifact=artifact)


def _integers_told(port: FixedPort, is_input: bool) -> str:
    """What a caller of the file must know."""
    if is_input:
        rule = f"{port.type}: floor(value * 2^{port.exponent} + 1/2), clipped"
        return f"the file takes {port.name} as {rule}; scores were measured that way"
    return f"the file gives {port.name} as {port.type}: value = integer * 2^{-port.exponent}"


def _export_graph(
    ports: dict[str, Any],
    encodings: Mapping[str, Encoding],
    warnings: Sequence[str],
    *,
    model: nn.Module | None,
    plan: Plan,
    folder: Path,
) -> Exported:
    """Everything beside the runnable file, which is there."""
    packed = pack(folder / RUNNABLE, folder / PACKED)
    files = _write_rest(RUNNABLE, encodings, model, plan, folder)
    artifact = Artifact(files=files, plan=plan, versions=versions(), **ports)
    _write_manifest(artifact, folder)
    return Exported(artifact, tuple(warnings), packed)


def export_weights(
    encodings: Mapping[str, Encoding], *, model: nn.Module, plan: Plan, folder: Path
) -> Exported:
    """The weights-only path: no graph, PyTorch runs the user's class with the packed weights.

    Writes ``weights.onnx`` (integers and steps, no nodes) in the place of ``model.onnx``; the rest
    is as for `export`.

    Raises:
        OutputError: A file cannot be written.
    """
    write_weights(stored_state(model), encodings, folder / CODES)
    packed = pack(folder / CODES, folder / PACKED)
    files = _write_rest(CODES, encodings, model, plan, folder)
    artifact = Artifact(kind="torch", files=files, plan=plan, versions=versions())
    _write_manifest(artifact, folder)
    return Exported(artifact, (), packed)


def _write_rest(
    runnable: str,
    encodings: Mapping[str, Encoding],
    model: nn.Module | None,
    plan: Plan,
    folder: Path,
) -> dict[str, FileEntry]:
    """PyTorch weights and plan; returns the entries of all shipped files."""
    if model is not None:
        save_weights(compressed_state(model, encodings), folder / WEIGHTS)
    (folder / PLAN).write_text(plan_to_toml(plan), encoding="utf-8")
    weights = [] if model is None else [WEIGHTS]
    return {name: file_entry(folder / name) for name in (runnable, PACKED, *weights, PLAN)}


def _write_manifest(artifact: Artifact, folder: Path) -> None:
    text = artifact.model_dump_json(indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def compressed_state(model: nn.Module, encodings: Mapping[str, Encoding]) -> dict[str, Tensor]:
    """The model's state dict with the encoded weights; tied names share one tensor."""
    state = model.state_dict()
    unknown = sorted(encodings.keys() - state.keys())
    if unknown:
        raise InternalError(f"encodings for parameters that do not exist: {unknown[:5]}")
    replaced: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    for name, encoding in encodings.items():
        value = state[name]
        replaced[value.data_ptr(), tuple(value.shape)] = encoding.decode().to(value.dtype)
    return {
        name: replaced.get((value.data_ptr(), tuple(value.shape)), value)
        for name, value in state.items()
    }
