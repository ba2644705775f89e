"""More rows of tables and of output layers: words, classes."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from lilliput.errors import ShapeError
from lilliput.model.exporting import FAILURES
from lilliput.shapes.atoms import Axis
from lilliput.shapes.cutting import named_width
from lilliput.shapes.flow import flat, named_arguments, operator_name
from lilliput.shapes.graphmodel import replace_weights
from lilliput.shapes.proof import Reference
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Shape, Width

Places = dict[str, int]  # weight -> the axis along which it grows
_SIZES = {"num_embeddings": 0, "out_features": 0, "out_channels": 0, "num_features": 0}
_NAMES = ("vocab", "classes", "labels", "num_tokens")


def vocabulary(shape: Shape, name: str = "") -> tuple[str, int]:
    """The table in which what the model is given is looked up: its weight's name and its rows.

    Args:
        shape: The model.
        name: Of the module or weight; without it the largest such table.

    Raises:
        ShapeError: The model looks nothing up, or `name` is no such table.
    """
    found: dict[str, int] = {}
    kinds = {one.arg.name: one for one in shape.captured.graph.graph_signature.input_specs}
    for node in shape.captured.graph.graph.nodes:
        if node.op != "call_function" or operator_name(node) != "embedding":
            continue
        values = named_arguments(node)
        table = kinds.get(values["weight"].name)
        if table is not None and _given(values["indices"], kinds):
            found[str(table.target)] = len(shape.flow.sources[str(table.target)].axes[0])
    if not found:
        raise ShapeError("the model has no embedding that its inputs are looked up in")
    if name:
        weights = {one.removesuffix(".weight"): one for one in found} | {one: one for one in found}
        if name not in weights:
            raise ShapeError(f"{name} is no vocabulary", f"did you mean {', '.join(found)}?")
        return weights[name], found[weights[name]]
    return max(found.items(), key=lambda item: item[1])


def larger_vocabulary(
    model: nn.Module, shape: Shape, *, table: str, rows: int | Tensor, inputs: Any
) -> Reshaped:
    """Adds words behind those of a table, and their rows in the output layer, tied or not.

    Answers to the old words stay, and so do their scores. The model is left as it was.

    Args:
        model: The model that `shape` was made of.
        shape: Its capture.
        table: Name of the table's weight, from `vocabulary`.
        rows: (new words, size) rows of the table; or how many, which then are its mean row.
        inputs: One example batch.

    Raises:
        ShapeError: The rows do not fit, or the larger model answers otherwise.
    """
    size = len(shape.flow.sources[table].axes[0])
    count = rows if isinstance(rows, int) else len(rows)
    wanted = tuple(model.get_parameter(table).shape[1:])
    if isinstance(rows, Tensor) and (
        rows.ndim != 2 or tuple(rows.shape[1:]) != wanted or not count
    ):
        raise ShapeError(f"rows of {table} are (n, {wanted[0]}), got {tuple(rows.shape)}")
    places = {table: 0}
    for axis in _outputs(shape):
        if len(axis) == size:
            places |= _places(shape, axis)
    given = {table: rows} if isinstance(rows, Tensor) else {}
    return _longer(model, shape, places, count=count, given=given, inputs=inputs)


def classes(shape: Shape, name: str = "") -> Width:
    """The width of the model's output whose units are classes: made by a layer, read by nothing.

    Raises:
        ShapeError: There is none, or several and none is named.
    """
    outputs = {int(unit) for axis in _outputs(shape) for unit in shape.settled.units(axis)}
    read = {int(atom) for axis in shape.flow.readers for atom in axis}
    found = [
        width
        for width in shape.widths.values()
        if outputs >= set(shape.units[width.name].tolist()) and not _read(shape, width, read)
    ]
    if name:
        width = named_width(shape, name)
        if width not in found:
            raise ShapeError(
                f"{name} holds no classes: it is read inside of the model"
                if outputs >= set(shape.units[name].tolist())
                else f"{name} holds no classes: it is not the model's output"
            )
        return width
    if len(found) != 1:
        names = ", ".join(width.name for width in found)
        raise ShapeError(
            f"the model has several outputs of classes: {names}"
            if found
            else "no layer makes "
            "the model's output by itself: its results are read inside of the model, or fixed",
            "name one of them" if found else "classes are added to a last layer",
        )
    return found[0]


def more_classes(
    model: nn.Module, shape: Shape, *, width: Width, count: int, inputs: Any
) -> Reshaped:
    """Adds classes behind those of an output layer; the old scores stay. The model stays too.

    Args:
        model: The model that `shape` was made of.
        shape: Its capture.
        width: From `classes`.
        count: How many, at least 1; each starts as the mean of the old ones.
        inputs: One example batch.

    Raises:
        ShapeError: The larger model answers otherwise for the old classes.
    """
    axis = next(axis for axis in _outputs(shape) if _holds(shape, axis, width))
    return _longer(model, shape, _places(shape, axis), count=count, given={}, inputs=inputs)


def _longer(
    model: nn.Module,
    shape: Shape,
    places: Places,
    *,
    count: int,
    given: Mapping[str, Tensor],
    inputs: Any,
) -> Reshaped:
    longer = copy.deepcopy(model)
    state, size = dict(longer.state_dict(keep_vars=True)), 0
    weights = {}
    for name, axis in places.items():
        old = state[name].detach()
        size = old.shape[axis]
        new = given.get(name, old.mean(axis, keepdim=True).repeat_interleave(count, axis))
        weights[name] = torch.cat([old, new.to(old)], axis)
    replace_weights(longer, weights)
    _fit(longer, weights, before=size, after=size + count)
    step = f"{count} more rows of {', '.join(list(places)[:3])}"
    try:
        checks = Reference(model, Kept(shape, {}), inputs).compare(longer, longer=True)
    except FAILURES as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ShapeError(f"{step} were refused: {reason}") from error
    if not all(check.equal for check in checks):
        worst = max(check.difference for check in checks)
        raise ShapeError(
            f"{step} were refused: the old answers change, by {worst:.1e}",
            "is there a softmax or a norm over the classes inside of the model?",
        )
    return Reshaped(longer, "class", tuple(checks))


def _fit(model: nn.Module, weights: Mapping[str, Tensor], *, before: int, after: int) -> None:
    """What modules and their configurations say of the number of rows."""
    owners = {name.rpartition(".")[0] for name in weights}
    for path, module in model.named_modules():
        configuration = vars(module).get("config")
        for holder in (module, configuration) if configuration is not None else (module,):
            for attribute, value in list(vars(holder).items()):
                ours = path in owners and attribute in _SIZES
                named = any(part in attribute for part in _NAMES)
                if type(value) is int and value == before and (ours or named):
                    setattr(holder, attribute, after)


def _outputs(shape: Shape) -> list[Axis]:
    """Axes of the model's outputs that weights lay out."""
    (output,) = (node for node in shape.captured.graph.graph.nodes if node.op == "output")
    axes = [axis for node in output.all_input_nodes for axis in flat(shape.flow.axes.get(node, []))]
    return [axis for axis in axes if (axis >= 0).all() and len(axis)]


def _places(shape: Shape, axis: Axis) -> Places:
    """Weights that run along an axis of the output, position by position."""
    units = shape.settled.units(axis)
    found: Places = {}
    for name, source in shape.flow.sources.items():
        for place, own in enumerate(source.axes):
            if not np.isin(shape.settled.units(own), units).any():
                continue
            if not np.array_equal(shape.settled.units(own), units) or name in found:
                raise ShapeError(f"{name} holds the classes in an order of its own")
            found[name] = place
    return found


def _holds(shape: Shape, axis: Axis, width: Width) -> bool:
    return set(shape.units[width.name].tolist()) <= set(shape.settled.units(axis).tolist())


def _read(shape: Shape, width: Width, read: set[int]) -> bool:
    return any(
        not read.isdisjoint(shape.flow.sources[tie.weight].axes[tie.axis].tolist())
        for tie in width.ties
    )


def _given(node: fx.Node, kinds: Mapping[str, Any]) -> bool:
    """Whether a value is an input of the model, but for its type and the parts taken of it."""
    while node.op == "call_function" and operator_name(node) in ("to", "long", "slice", "clone"):
        node = node.all_input_nodes[0]
    return node.name in kinds and kinds[node.name].kind is InputKind.USER_INPUT
