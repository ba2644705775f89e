"""Larger images: position tables are interpolated; what takes any size stays as it is."""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind
from torch.nn import functional
from torch.utils import _pytree as pytree

from lilliput.errors import ShapeError, TaskError
from lilliput.evaluation import evaluating
from lilliput.model.calls import arguments
from lilliput.model.exporting import run_once
from lilliput.shapes.flow import operator_name
from lilliput.shapes.graphmodel import replace_weights
from lilliput.shapes.proof import Reference
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Shape

_MOST_EXTRA = 2  # tokens before those of the patches
_UNPROVED = "answers to larger images cannot be proved equal to anything: judge them by their score"


@dataclass(frozen=True)
class _Table:
    """A table with a row per patch: (1, extra + height * width, size) or without the 1.

    Attributes:
        counted: Buffers that hold the numbers by which its rows are looked up.
    """

    name: str
    extra: int
    height: int
    width: int
    counted: tuple[str, ...] = ()

    def resized(self, value: Tensor, factor: float) -> Tensor:
        """The patches' rows interpolated; those before them as they are."""
        rows = value.detach().reshape(-1, value.shape[-1])
        grid = rows[self.extra :].T.reshape(1, -1, self.height, self.width).float()
        size = (round(self.height * factor), round(self.width * factor))
        larger = functional.interpolate(grid, size=size, mode="bicubic", align_corners=False)
        patches = larger.reshape(value.shape[-1], -1).T.to(value)
        return torch.cat([rows[: self.extra], patches]).reshape(
            *value.shape[:-2], -1, rows.shape[1]
        )


def larger_images(model: nn.Module, shape: Shape, *, factor: float, inputs: Any) -> Reshaped:
    """A copy that takes images whose sides are `factor` times as long.

    Position tables added to patches are interpolated, bicubically (as in the vision transformer,
    arXiv 2010.11929). The model is left as it was.

    Args:
        model: The model that `shape` was made of.
        shape: Its capture.
        factor: Above 1.
        inputs: One example batch of the old size.

    Raises:
        ShapeError: The inputs are no images, or no table explains why larger ones do not run.
    """
    larger, (height, width) = enlarged(inputs, factor)
    if _runs(model, larger) is None:
        same = copy.deepcopy(model)
        checks = Reference(model, Kept(shape, {}), inputs).compare(same)
        note = "the model takes larger images as it is, nothing was changed"
        return Reshaped(same, "class", tuple(checks), (note, _UNPROVED))
    tables, others = _tables(shape, height=height, width=width)
    reason = "; ".join(others) or "no position table is added to patches"
    names = ", ".join(one.name for one in tables)
    for fitted in (False, True) if tables else ():
        changed = _interpolated(model, tables, factor)
        if fitted:
            _fit(changed, tables, factor=factor, image=(height, width))
        why = _runs(changed, larger)
        if why is None:
            return Reshaped(changed, "class", (), (f"interpolated: {names}", _UNPROVED))
        reason = f"with {names} interpolated, {why}"
    raise ShapeError(f"images {factor:g} times as large were refused: {reason}")


def enlarged(inputs: Any, factor: float) -> tuple[Any, tuple[int, int]]:
    """Larger images, and height and width of those that were given.

    Args:
        inputs: A batch whose floating-point tensors of four axes are images.
        factor: How many times as long their sides will be.

    Raises:
        ShapeError: There is no image.
    """
    sizes: list[tuple[int, int]] = []

    def enlarge(leaf: Tensor) -> Tensor:
        if leaf.ndim != 4 or not leaf.is_floating_point():
            return leaf
        sizes.append((leaf.shape[-2], leaf.shape[-1]))
        size = [round(side * factor) for side in leaf.shape[-2:]]
        return functional.interpolate(leaf, size=size, mode="nearest")

    larger = pytree.tree_map_only(Tensor, enlarge, inputs)
    if not sizes:
        raise ShapeError("the inputs are no images", "images are (batch, channels, height, width)")
    return larger, sizes[0]


def _interpolated(model: nn.Module, tables: list[_Table], factor: float) -> nn.Module:
    """A copy with larger tables, and with as many numbers to look their rows up by."""
    changed = copy.deepcopy(model)
    state = dict(changed.named_parameters(remove_duplicate=False)) | dict(changed.named_buffers())
    weights: dict[str, Tensor] = {}
    for table in tables:
        weights[table.name] = table.resized(state[table.name], factor)
        numbers = torch.arange(weights[table.name].shape[-2])
        for name in table.counted:
            weights[name] = numbers.to(state[name]).expand(*state[name].shape[:-1], -1)
    replace_weights(changed, weights)
    for table in tables:
        home = changed.get_submodule(table.name.rpartition(".")[0])
        if isinstance(home, nn.Embedding):
            home.num_embeddings = len(home.weight)
    return changed


def _runs(model: nn.Module, inputs: Any) -> str | None:
    """Why a model does not run on inputs; None where it does."""
    try:
        with evaluating(model), torch.no_grad():
            run_once(model, arguments(inputs))
    except TaskError as error:
        return error.message
    return None


def _tables(shape: Shape, *, height: int, width: int) -> tuple[list[_Table], list[str]]:
    """Parameters with a row per patch that are added to what the model makes of its inputs.

    Also why other tables, which are looked up as a whole, are none such.
    """
    program = shape.captured.graph
    kinds = {one.arg.name: one for one in program.graph_signature.input_specs}
    found: dict[str, _Table] = {}
    others: list[str] = []
    for node in program.graph.nodes:
        for one, ids in _rows_added(node):
            kind = kinds.get(one.name)
            if kind is None or kind.kind is not InputKind.PARAMETER:
                continue
            name, rows = str(kind.target), int(one.meta["val"].shape[-2])
            table = _grid(name, rows, height=height, width=width)
            if table is not None:
                held = [kinds[each] for each in _before(ids) if each in kinds]
                buffers = [each.target for each in held if each.kind is InputKind.BUFFER]
                found[name] = replace(table, counted=tuple(map(str, buffers)))
            elif ids is not None:
                others.append(f"{name} has {rows} rows, no grid of patches of {height} x {width}")
    return list(found.values()), others


def _rows_added(node: fx.Node) -> list[tuple[fx.Node, fx.Node | None]]:
    """What may be tables in an operator: those of a sum; one looked up whole, and its numbers."""
    name = operator_name(node) if node.op == "call_function" else ""
    if name == "embedding":
        table, ids = node.all_input_nodes[:2]
        whole = node.meta["val"].shape[-2:] == table.meta["val"].shape
        return [(table, ids)] if whole else []
    if name not in ("add", "add_"):
        return []
    sizes = [(one, one.meta["val"].shape) for one in node.all_input_nodes]
    return [(one, None) for one, size in sizes if len(size) > 1 and math.prod(size[:-2]) == 1]


def _before(node: fx.Node | None) -> set[str]:
    """Names of all nodes that a node is made of, its own among them."""
    seen, left = set[str](), [node] if node is not None else []
    while left:
        last = left.pop()
        if last.name not in seen:
            seen.add(last.name)
            left += last.all_input_nodes
    return seen


def _grid(name: str, rows: int, *, height: int, width: int) -> _Table | None:
    """The rows as a grid of the image's proportions, behind as few others as possible."""
    for extra in range(_MOST_EXTRA + 1):
        high = round(math.sqrt(max(rows - extra, 0) * height / width))
        wide = round(high * width / height)
        if high > 1 and high * wide == rows - extra:
            return _Table(name, extra, high, wide)
    return None


def _fit(model: nn.Module, tables: list[_Table], *, factor: float, image: tuple[int, int]) -> None:
    """What modules say of the sizes of images and of the numbers of patches."""
    sides = {side: round(side * factor) for side in image}
    counts: dict[int, int] = {}
    for table in tables:
        patches = round(table.height * factor) * round(table.width * factor)
        counts[table.height * table.width] = patches
        counts[table.height * table.width + table.extra] = patches + table.extra
    for module in model.modules():
        for attribute, value in list(vars(module).items()):
            counted = any(part in attribute for part in ("patches", "position", "tokens"))
            changes = counts if counted else sides if _of_images(attribute) else {}
            if type(value) is int and value in changes:
                setattr(module, attribute, changes[value])
            elif changes is sides and isinstance(value, tuple) and value == image:
                setattr(module, attribute, tuple(sides[side] for side in value))


def _of_images(attribute: str) -> bool:
    return any(part in attribute for part in ("image", "img", "resolution"))
