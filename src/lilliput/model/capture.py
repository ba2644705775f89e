"""The main view of a model: its exported graph and the weights in it that can change."""

import difflib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.export import ExportedProgram

from lilliput.errors import CaptureError, InputError
from lilliput.evaluation import evaluating
from lilliput.model.calls import Arguments, arguments
from lilliput.model.exporting import (
    Dynamic,
    all_axes_open,
    doubled,
    export_program,
    fixed_batch,
    open_axes,
    run_once,
    silenced,
)
from lilliput.model.hashes import model_hash
from lilliput.model.inventory import Inventory, take_inventory
from lilliput.model.modules import list_modules
from lilliput.model.sites import Site
from lilliput.model.uses import Use


@dataclass(frozen=True)
class Capture:
    """What was found in a model.

    Attributes:
        program: The exported graph, not decomposed; None when captured through modules.
        sites: Weights that can change, by name, in the order in which they are first used.
        uses: Every place that reads a site, in order.
        macs: Multiply-adds of one example per site, over all its uses.
        frozen: Weights that cannot change, with the reason.
        warnings: What the user should know.
        how: ``graph``, ``hooks`` for the weights-only path, or ``onnx`` for an ONNX file.
        model_hash: Names and shapes of all parameters (`lilliput.model.hashes.model_hash`).
        parameters: Number of weights of the whole model, ties once.
        part: Qualified name of the captured submodule; empty for the whole model.
    """

    program: ExportedProgram | None
    sites: dict[str, Site]
    uses: tuple[Use, ...]
    macs: dict[str, int]
    frozen: dict[str, str]
    warnings: tuple[str, ...]
    how: Literal["graph", "hooks", "onnx"]
    model_hash: str
    parameters: int
    part: str = ""

    @property
    def graph(self) -> ExportedProgram:
        """The exported graph.

        Raises:
            CaptureError: The model was captured through its modules, or is an ONNX file.
        """
        if self.program is None:
            raise CaptureError("this model was captured without a graph of PyTorch")
        return self.program

    def captured(self, model: nn.Module) -> nn.Module:
        """The module that was captured: the model or its part."""
        return model.get_submodule(self.part)


def capture(
    model: nn.Module,
    inputs: Any,
    *,
    dynamic: Dynamic | None = None,
    part: str = "",
    smallest: int = 256,
) -> Capture:
    """Exports the model's graph and lists its sites. The model is left as it was.

    Args:
        model: Any module; it is run in evaluation mode.
        inputs: One batch: tensor, tuple or mapping. One example is enough; it is doubled, because
            the exporter takes a batch of one for a constant.
        dynamic: Axes beside the batch that vary: input's name or position -> axes, or one entry
            per flattened tensor (``task.varying()``).
        part: Capture only this submodule (qualified name); the whole model is run to see what it
            is called with.
        smallest: Weights with fewer elements stay as they are.

    Raises:
        CaptureError: The graph cannot be captured; names the line and the fallbacks.
        InputError: The model has no such part; names the nearest.
        TaskError: The model does not run on `inputs`.
    """
    batch = doubled(inputs)
    with evaluating(model), silenced() as said:
        call = arguments(batch)
        run_once(model, call)
        marks = open_axes(model, call, dynamic)
        target = _submodule(model, part)
        if part:
            call = _calls(model, part, batch)[0]
            marks = all_axes_open(target, call) if dynamic else open_axes(target, call, None)
        program = export_program(target, call, marks=marks)
    notes = [*said, *filter(None, [fixed_batch(program)])]
    inventory = take_inventory(program, model, smallest=smallest, part=part)
    return _capture(model, inventory, program=program, notes=notes, part=part)


def capture_or_hooks(
    model: nn.Module, inputs: Any, *, dynamic: Dynamic | None = None, smallest: int = 256
) -> Capture:
    """`capture`; where that fails, the weights-only path: sites from modules, seen through hooks.

    It knows Linear, Conv1d to 3d, Embedding, LSTM, GRU, RNN and MultiheadAttention; the reason for
    falling back is in ``warnings`` and ``how`` is ``"hooks"``. Reads of a weight outside of these
    modules are not seen.

    Raises:
        TaskError: The model does not run on `inputs`.
    """
    try:
        return capture(model, inputs, dynamic=dynamic, smallest=smallest)
    except CaptureError as error:
        notes = [f"{error.message}; the weights-only path is used"]
    with evaluating(model):
        inventory = list_modules(model, inputs, smallest=smallest)
    return _capture(model, inventory, program=None, notes=notes, part="")


def calls_of(captured: Capture, model: nn.Module, inputs: Any) -> list[Arguments]:
    """What the captured module is called with on one batch; a part may be called several times."""
    return _calls(model, captured.part, inputs) if captured.part else [arguments(inputs)]


def _capture(
    model: nn.Module,
    inventory: Inventory,
    *,
    program: ExportedProgram | None,
    notes: list[str],
    part: str,
) -> Capture:
    return Capture(
        program=program,
        sites=inventory.sites,
        uses=tuple(inventory.uses),
        macs=inventory.macs,
        frozen=inventory.frozen,
        warnings=(*notes, *inventory.warnings),
        how="hooks" if program is None else "graph",
        model_hash=model_hash(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        part=part,
    )


def _submodule(model: nn.Module, part: str) -> nn.Module:
    try:
        return model.get_submodule(part)
    except AttributeError as error:
        known = ", ".join(name for name, _ in model.named_children())
        every = [name for name, _ in model.named_modules()]
        close = difflib.get_close_matches(part, every, n=1)
        raise InputError(
            f"the model has no part {part!r}",
            f"did you mean {close[0]}?" if close else f"its parts are {known}",
        ) from error


def _calls(model: nn.Module, part: str, inputs: Any) -> list[Arguments]:
    """Runs the whole model and records what one of its submodules is called with."""
    seen: list[Arguments] = []

    def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args, kwargs))

    handle = _submodule(model, part).register_forward_pre_hook(record, with_kwargs=True)
    try:
        with torch.no_grad():
            run_once(model, arguments(inputs))
    finally:
        handle.remove()
    if not seen:
        raise CaptureError(f"the model never calls its part {part!r}")
    return seen
