"""The user's model as one ONNX file: exported once, cleaned, and checked against PyTorch."""

import logging
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lilliput.batches import call, flatten_tensors
from lilliput.errors import CaptureError
from lilliput.evaluation import evaluating
from lilliput.model.calls import arguments
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.onnx_clean import clean, save, weight_bytes
from lilliput.runtime.sessions import default_session

Dynamic = Mapping[str | int, Collection[int]]
_LARGEST_FILE = 2**31 - 2**20  # protobuf's limit, less room for the graph
_LEAST_DECIBELS = 50.0  # fp32 on both sides agrees to 100 dB and more


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file and how it relates to the model it was exported from.

    Attributes:
        path: The file.
        inputs: Graph inputs, in the order in which the model's inputs flatten.
        outputs: Graph outputs, in the order in which the model's outputs flatten.
        readers: Name of a node -> qualified names of the parameters which the operation it was
            exported from reads. The file itself no longer says so: that text holds source paths.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    readers: Mapping[str, tuple[str, ...]]


def export_original(
    model: nn.Module, inputs: Any, path: Path, *, dynamic: Dynamic | None = None
) -> OnnxModel:
    """Exports a model to one self-contained ONNX file; the model itself is not changed.

    Args:
        model: Any module that torch.export takes.
        inputs: One batch: a tensor, a tuple (positional) or a mapping (keywords).
        path: Where to write.
        dynamic: Input (its keyword, or its position among the flattened inputs) -> dimensions
            that vary besides the batch, e.g. ``{"input_ids": [1]}``.

    Raises:
        CaptureError: The model cannot be exported, is larger than 2 GB, or its export answers
            differently from PyTorch.
    """
    inputs = _at_least_two(inputs)
    args, kwargs = arguments(inputs)
    shapes = _dynamic_shapes(inputs, dynamic or {})
    with evaluating(model), _quiet():
        exported = _export(model, args, kwargs, shapes)
    graph = exported.graph
    readers = _readers(exported)
    leaves = flatten_tensors(inputs)
    if len(graph.inputs) != len(leaves):
        raise CaptureError(
            f"the export has {len(graph.inputs)} inputs, the examples have {len(leaves)} tensors",
            "drop inputs that the model ignores from the examples",
        )
    _name_dimensions(exported)
    clean(exported)
    if weight_bytes(exported) > _LARGEST_FILE:
        raise CaptureError(
            f"the model has {weight_bytes(exported) / 1e9:.1f} GB of weights; "
            "one ONNX file holds at most 2 GB",
            'compress a submodule with part="..."',
        )
    save(exported, path)
    result = OnnxModel(
        path,
        tuple(value.name or "" for value in graph.inputs),
        tuple(value.name or "" for value in graph.outputs),
        readers,
    )
    _check(model, inputs, result)
    return result


def _export(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any
) -> ir.Model:
    try:
        program = torch.onnx.export(
            model,
            args,
            kwargs=kwargs,
            dynamo=True,
            external_data=False,
            dynamic_shapes=shapes,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise CaptureError(
            f"the model cannot be exported to ONNX: {_reason(error)}",
            "the weights-only path still compresses it",
        ) from error
    if program is None:
        raise CaptureError("torch.onnx.export returned nothing for this model")
    return program.model


def _reason(error: BaseException) -> str:
    """First line of the first cause, with the user's line of code where one is known."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    own = [frame for frame in own if frame.name == "forward"]
    where = f", at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    return f"{lines[0][:300]}{where}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings, loggers and prints of the exporter for the length of a block."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _batch_of(inputs: Any) -> int:
    """Size of the first dimension of the first tensor that has one."""
    for leaf in flatten_tensors(inputs):
        if leaf.ndim:
            return int(leaf.shape[0])
    raise CaptureError("the examples hold no tensor with a batch dimension")


def _with_rows(inputs: Any, rows: list[int]) -> Any:
    """The same inputs with these rows of the batch."""
    batch = _batch_of(inputs)

    def pick(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[0] == batch:
            return leaf[rows]
        return leaf

    return pytree.tree_map(pick, inputs)


def _at_least_two(inputs: Any) -> Any:
    """A batch of one is repeated: a dimension of size 1 would be exported as a constant."""
    return _with_rows(inputs, [0, 0]) if _batch_of(inputs) == 1 else inputs


def _dynamic_shapes(inputs: Any, dynamic: Dynamic) -> Any:
    """The pytree of varying dimensions that torch.export wants for these inputs."""
    batch = _batch_of(inputs)
    args, kwargs = arguments(inputs)
    known: set[str | int] = set(range(len(flatten_tensors(inputs)))) | set(kwargs)
    unknown = [str(key) for key in dynamic if key not in known]
    if unknown:
        raise CaptureError(
            f"dynamic names inputs that do not exist: {', '.join(unknown)}",
            f"inputs are {', '.join(sorted(map(str, known)))}",
        )
    count = iter(range(len(flatten_tensors(inputs))))

    def shape(path: Any, leaf: Any) -> dict[int, Any] | None:
        if not isinstance(leaf, Tensor):
            return None
        index = next(count)
        keys = {index} | {part.key for part in path if isinstance(part, pytree.MappingKey)}
        dims = {0} if leaf.ndim and leaf.shape[0] == batch else set()
        for key in keys:
            dims |= {dim % leaf.ndim for dim in dynamic.get(key, ())}
        return dict.fromkeys(sorted(dims), torch.export.Dim.DYNAMIC)

    args_shapes = pytree.tree_map_with_path(shape, args)
    kwargs_shapes = pytree.tree_map_with_path(shape, kwargs)
    return kwargs_shapes if kwargs else args_shapes


def _readers(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """For each node the parameters named in the operation it was exported from."""
    signature = model.graph.metadata_props.get(
        "pkg.torch.export.ExportedProgram.graph_signature", ""
    )
    targets = {}
    for line in signature.splitlines():
        placeholder, found, target = line.partition(" target='")
        if found:
            targets[placeholder.split(":")[0].strip()] = target.rstrip("'")
    readers = {}
    for node in model.graph.all_nodes():
        text = node.metadata_props.get("pkg.torch.onnx.fx_node", "")
        words = text.replace(",", " ").replace("]", " ").replace("[", " ").replace(")", " ")
        names = [word.split("%")[-1] for word in words.replace("(", " ").split() if "%" in word]
        read = tuple(dict.fromkeys(targets[name] for name in names if name in targets))
        if node.name and read:
            readers[node.name] = read
    return readers


def _name_dimensions(model: ir.Model) -> None:
    """Calls the batch ``batch`` and other varying dimensions ``<input>_<dimension>``."""
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for index, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                name = "batch" if index == 0 else f"{value.name}_{index}"
                names.setdefault(dim.value, name)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is None:
            continue
        for index, dim in enumerate(value.shape):
            if isinstance(dim, ir.SymbolicDim):
                value.shape[index] = names.get(dim.value or "")


def _check(model: nn.Module, inputs: Any, exported: OnnxModel) -> None:
    """Compares the file with PyTorch on the batch given and on one that is a row longer."""
    session = default_session(exported.path)
    batch = _batch_of(inputs)
    for rows in (list(range(batch)), [*range(batch), 0]):
        some = _with_rows(inputs, rows)
        with evaluating(model):
            wanted = [x for x in pytree.tree_leaves(call(model, some)) if isinstance(x, Tensor)]
        feed = {
            name: leaf.numpy()
            for name, leaf in zip(exported.inputs, flatten_tensors(some), strict=True)
        }
        answers = session.run(list(exported.outputs), feed)
        if len(answers) != len(wanted):
            raise CaptureError(
                f"the export has {len(answers)} outputs, the model returns {len(wanted)} tensors"
            )
        for name, answer, want in zip(exported.outputs, answers, wanted, strict=True):
            _compare(name, answer, want.numpy())


def _compare(name: str, answer: np.ndarray, wanted: np.ndarray) -> None:
    if answer.shape != wanted.shape:
        raise CaptureError(
            f"output {name} of the export has shape {answer.shape}, PyTorch's {wanted.shape}",
            "a dimension that varies was exported as a constant; name it in `dynamic`",
        )
    if wanted.dtype.kind != "f":
        return
    decibels = signal_to_noise(wanted, answer)
    if decibels is not None and not decibels >= _LEAST_DECIBELS:
        raise CaptureError(
            f"output {name} of the export differs from PyTorch's ({decibels:.0f} dB)",
            "does the model use random numbers or keep state between calls?",
        )
