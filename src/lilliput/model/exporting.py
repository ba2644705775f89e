"""torch.export, with the batch left open, errors in the user's terms, and no noise."""

import contextlib
import inspect
import io
import logging
import os
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.utils import _pytree as pytree

from lilliput.errors import CaptureError, TaskError
from lilliput.model.calls import Arguments
from lilliput.model.sizes import hint, symbol

Dynamic = Mapping[str | int, Iterable[int]] | Sequence[Iterable[int]]

FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
_HINT = 'capture a submodule with part="...", or use the weights-only path (capture_or_hooks)'
_OURS = os.path.dirname(__file__)
_TORCH = os.path.dirname(torch.__file__)


def export_program(model: nn.Module, call: Arguments, *, marks: Any) -> ExportedProgram:
    """The non-decomposed graph of `model` for one call.

    Args:
        model: In evaluation mode, gradients off.
        call: Positional and keyword arguments.
        marks: Open dimensions, from `open_axes`.

    Raises:
        CaptureError: Names the user's line and the reason.
    """
    args, kwargs = call
    try:
        with _explicit(model, kwargs):
            return torch.export.export(model, args, kwargs, strict=False, dynamic_shapes=marks)
    except FAILURES as error:
        raise CaptureError(f"the graph cannot be captured: {described(error)}", _HINT) from error


def run_once(model: nn.Module, call: Arguments) -> Any:
    """The model's outputs on one call, its buffers untouched.

    Raises:
        TaskError: The model raised; names the line.
    """
    args, kwargs = pytree.tree_map_only(Tensor, torch.clone, call)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        return torch.func.functional_call(model, buffers, args, kwargs)
    except FAILURES as error:
        raise TaskError(
            f"the model does not run on the example inputs: {described(error)}",
            "a tuple is passed as model(*inputs), a dict as model(**inputs), a tensor alone",
        ) from error


def described(error: BaseException) -> str:
    """``file:line in function: reason`` of the innermost frame that is neither torch's nor ours."""
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        foreign = frame.filename.startswith((_TORCH, _OURS, "<"))
        if not foreign and not frame.filename.endswith("contextlib.py"):
            return f"{frame.filename}:{frame.lineno} in {frame.name}: {reason}"
    return reason


def batch_size(inputs: Any) -> int | None:
    """Size of the first axis of the first tensor that has one."""
    sizes = [leaf.shape[0] for leaf in pytree.tree_leaves(inputs) if _has_axes(leaf)]
    return sizes[0] if sizes else None


def doubled(inputs: Any) -> Any:
    """Repeats a single example: the exporter takes a batch of one for a constant."""
    if batch_size(inputs) != 1:
        return inputs

    def twice(leaf: Any) -> Any:
        return torch.cat([leaf, leaf]) if _has_axes(leaf) and leaf.shape[0] == 1 else leaf

    return pytree.tree_map(twice, inputs)


def open_axes(model: nn.Module, call: Arguments, dynamic: Dynamic | None) -> Any:
    """Marks the batch axis, and the named axes, of every tensor of a call as open.

    Args:
        model: What is called.
        call: Positional and keyword arguments.
        dynamic: Input's name or position -> its open axes beside the batch; or the same as a
            sequence, one entry per flattened tensor.

    Returns:
        What `torch.export.export` takes as ``dynamic_shapes``.

    Raises:
        CaptureError: `dynamic` names an input that the call does not have.
    """
    args, kwargs = call
    batch = batch_size(call)
    inputs: dict[str | int, Any] = dict(enumerate(args))
    inputs.update(kwargs)
    if isinstance(dynamic, Mapping):
        unknown = [str(name) for name in dynamic if name not in inputs]
        if unknown:
            raise CaptureError(f"dynamic names {', '.join(unknown)}, the inputs are {[*inputs]}")
        named = [dynamic.get(name, ()) for name, value in inputs.items() for _ in _tensors(value)]
    else:
        named = list(dynamic or ())
    marks = ShapesCollection()  # type: ignore[no-untyped-call]
    for leaf, axes in zip_longest(_tensors(call), named, fillvalue=()):
        if isinstance(leaf, Tensor) and leaf.ndim:
            first = {0} if leaf.shape[0] == batch else set()
            marks[leaf] = dict.fromkeys(sorted(first | set(axes)), Dim.AUTO)
    with _explicit(model, kwargs):
        return marks.dynamic_shapes(model, args, kwargs)  # type: ignore[no-untyped-call]


def all_axes_open(model: nn.Module, call: Arguments) -> Any:
    """Marks every axis of every tensor of a call as open."""
    tensors = _tensors(call)
    return open_axes(model, call, [tuple(range(tensor.ndim)) for tensor in tensors])


@contextlib.contextmanager
def _explicit(model: nn.Module, kwargs: dict[str, Any]) -> Iterator[None]:
    """Names the keywords that ``forward(**kwargs)`` swallows: the exporter trips over those."""
    signature = inspect.signature(model.forward)
    swallows = inspect.Parameter.VAR_KEYWORD
    named = [item for item in signature.parameters.values() if item.kind is not swallows]
    missing = [name for name in kwargs if name not in {item.name for item in named}]
    if not missing:
        yield
        return
    inner, own = model.forward, model.__dict__.get("forward")

    def forward(*args: Any, **keywords: Any) -> Any:
        return inner(*args, **keywords)

    named += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in missing]
    vars(forward)["__signature__"] = signature.replace(parameters=named)
    model.__dict__["forward"] = forward
    try:
        yield
    finally:
        model.__dict__.pop("forward")
        if own is not None:
            model.__dict__["forward"] = own


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def fixed_batch(program: ExportedProgram) -> str | None:
    """A warning where the graph only works for one batch size, or None."""
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        given = node.op == "placeholder" and node.name in names
        if given and _has_axes(node.meta.get("val")):
            size = node.meta["val"].shape[0]
            if symbol(size) is not None:
                return None
            return f"the model fixes its batch size at {hint(size)} (input {node.name})"
    return None


@contextlib.contextmanager
def silenced() -> Iterator[list[str]]:
    """Keeps warnings, prints and logs of the exporter from the user; yields the warnings' texts.

    The list is complete when the block ends.
    """
    said: list[str] = []
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    quiet = contextlib.redirect_stderr(io.StringIO())
    try:
        with warnings.catch_warnings(record=True) as caught, quiet:
            warnings.simplefilter("always")
            yield said
    finally:
        logging.disable(disabled)
    texts = [str(warning.message).strip() for warning in caught]
    first = [text.splitlines()[0] for text in texts if text]
    said += [text for text in dict.fromkeys(first) if "_flat_weights" not in text]


def _has_axes(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0
