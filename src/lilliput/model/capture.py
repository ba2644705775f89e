"""The main view of a model: its exported graph and the weights in it that can change."""

import contextlib
import io
import logging
import os
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from lilliput.errors import CaptureError, TaskError
from lilliput.model.calls import arguments, evaluating
from lilliput.model.hashes import model_hash
from lilliput.model.inventory import Inventory, Use, take_inventory
from lilliput.model.sites import Site

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
_TORCH = os.path.dirname(torch.__file__)
_HERE = os.path.dirname(__file__)
Dynamic = Mapping[str | int, Mapping[int, str]]


@dataclass(frozen=True)
class Capture:
    """What was found in a model.

    Attributes:
        program: The exported graph, not decomposed; None when captured through modules.
        sites: Weights that can change, by name, in the order in which they are used.
        uses: Every place that reads a site, in order of use.
        macs: Multiply-adds of one example per site, over all its uses.
        frozen: Weights that cannot change, with the reason.
        warnings: What the user should know.
        how: ``graph``, or ``hooks`` for the weights-only path.
        model_hash: See `lilliput.model.hashes.model_hash`; always of the whole model.
        parameters: Number of weights of the whole model, ties once.
        part: Qualified name of the captured submodule; empty for the whole model.
    """

    program: ExportedProgram | None
    sites: dict[str, Site]
    uses: tuple[Use, ...]
    macs: dict[str, int]
    frozen: dict[str, str]
    warnings: tuple[str, ...]
    how: Literal["graph", "hooks"]
    model_hash: str
    parameters: int
    part: str = ""


def capture(
    model: nn.Module,
    inputs: Any,
    *,
    dynamic: Dynamic | None = None,
    smallest: int = 256,
) -> Capture:
    """Exports the model's graph and lists its sites. The model is left as it was.

    Args:
        model: Any module; it is run in evaluation mode.
        inputs: One batch: tensor, tuple or mapping. One example is enough; it is doubled, because
            the exporter takes a batch of one for a constant.
        dynamic: Further dimensions that vary: input's name or position -> {dimension: label}.
        smallest: Weights with fewer elements stay as they are.

    Raises:
        CaptureError: The graph cannot be captured; names the line and the fallbacks.
        TaskError: The model does not run on `inputs`.
    """
    inputs = _doubled(inputs)
    with evaluating(model), torch.no_grad(), _silenced() as said:
        _run_once(model, inputs)
        program = _export(model, inputs, dynamic or {})
    inventory = take_inventory(program, model, smallest=smallest)
    notes = [text for text in said if "_flat_weights" not in text]
    notes += _fixed_batch(program)
    return _capture_of(model, program, inventory, notes=notes)


def _capture_of(
    model: nn.Module, program: ExportedProgram, inventory: Inventory, *, notes: list[str]
) -> Capture:
    return Capture(
        program=program,
        sites=inventory.sites,
        uses=inventory.uses,
        macs=inventory.macs,
        frozen=inventory.frozen,
        warnings=(*notes, *inventory.warnings),
        how="graph",
        model_hash=model_hash(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _run_once(model: nn.Module, inputs: Any) -> None:
    args, kwargs = arguments(pytree.tree_map_only(Tensor, Tensor.clone, inputs))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        torch.func.functional_call(model, buffers, args, kwargs)
    except _FAILURES as error:
        raise TaskError(
            f"the model does not run on the example inputs: {_line(error)}{_first_line(error)}",
            "a tuple is passed as model(*inputs), a dict as model(**inputs), a tensor alone",
        ) from error


def _export(model: nn.Module, inputs: Any, dynamic: Dynamic) -> ExportedProgram:
    args, kwargs = arguments(inputs)
    try:
        return torch.export.export(
            model, args, kwargs, strict=False, dynamic_shapes=_dynamic_shapes(args, kwargs, dynamic)
        )
    except _FAILURES as error:
        raise CaptureError(
            f"the model's graph cannot be captured: {_line(error)}{_first_line(error)}",
            'capture a submodule with part="...", or use the weights-only path (capture_or_hooks)',
        ) from error


def _dynamic_shapes(args: tuple[Any, ...], kwargs: dict[str, Any], dynamic: Dynamic) -> Any:
    """Marks the batch dimension, and the named ones, of every tensor; the structure of the call."""
    batch = _batch_size((args, kwargs))

    def marks(tensor: Any, named: Mapping[int, str]) -> Any:
        if not isinstance(tensor, Tensor):
            return None
        dims = set(named) | ({0} if tensor.ndim and tensor.shape[0] == batch else set())
        return {dim: torch.export.Dim.AUTO for dim in dims}

    def of(key: str | int, value: Any) -> Any:
        named = dynamic.get(key, {})
        return pytree.tree_map(lambda leaf: marks(leaf, named), value)

    positional = tuple(of(position, value) for position, value in enumerate(args))
    keywords = {name: of(name, value) for name, value in kwargs.items()}
    return (*positional, *keywords.values()) if not keywords else _by_name(positional, keywords)


def _by_name(positional: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    if positional:
        raise CaptureError("inputs are either positions or names, not both")
    return keywords


def _batch_size(inputs: Any) -> int | None:
    sizes = [leaf.shape[0] for leaf in pytree.tree_leaves(inputs) if _has_rows(leaf)]
    return sizes[0] if sizes else None


def _has_rows(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0


def _doubled(inputs: Any) -> Any:
    """Repeats a single example: the exporter would make a batch of one a constant."""
    if _batch_size(inputs) != 1:
        return inputs

    def twice(leaf: Any) -> Any:
        return torch.cat([leaf, leaf]) if _has_rows(leaf) and leaf.shape[0] == 1 else leaf

    return pytree.tree_map(twice, inputs)


def _fixed_batch(program: ExportedProgram) -> list[str]:
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names and _has_rows(node.meta.get("val")):
            size = node.meta["val"].shape[0]
            if isinstance(size, int):
                return [f"the model fixes its batch size at {size}: input {node.name!r}"]
            break
    return []


@contextlib.contextmanager
def _silenced() -> Any:
    """Collects warnings as text and drops what the exporter prints."""
    said: list[str] = []
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("always")
            yield said
    finally:
        logging.disable(disabled)
        said += dict.fromkeys(str(warning.message).splitlines()[0] for warning in caught)


def _line(error: BaseException) -> str:
    """``file:line in function: `` of the innermost frame that is neither torch's nor ours."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        own = frame.filename.startswith((_TORCH, _HERE, "<"))
        if not own and not frame.filename.endswith("contextlib.py"):
            return f"{frame.filename}:{frame.lineno} in {frame.name}: "
    return ""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
