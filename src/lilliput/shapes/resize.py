"""What a change of widths leaves: positions of axes, weights, and operators that say sizes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from lilliput.errors import ShapeError
from lilliput.shapes.atoms import Axes, Axis
from lilliput.shapes.flow import flat, named_arguments, operator_name
from lilliput.shapes.rules.products import CONVOLUTIONS
from lilliput.shapes.widths import Shape

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Kept:
    """Which units stay, and how often.

    Attributes:
        shape: The model.
        units: Name of a width -> (new units,) numbers of the units that stay, ascending; a unit
            that is named several times is copied.
    """

    shape: Shape
    units: Mapping[str, Axis]

    def __post_init__(self) -> None:
        times = np.ones(int(self.shape.settled.unit.max(initial=0)) + 1, dtype=np.int64)
        for name, kept in self.units.items():
            members = self.shape.units[name]
            times[members] = np.bincount(np.asarray(kept, np.int64), minlength=len(members))
        object.__setattr__(self, "_times", times)

    def times(self, axis: Axis) -> Axis:
        """(n,) how often each position of an axis will be there; 1 where nothing changes."""
        units = self.shape.settled.units(axis)
        times: Axis = vars(self)["_times"]
        return np.where(units >= 0, times[np.maximum(units, 0)], 1)

    def mask(self, axis: Axis) -> Mask:
        """(n,) which positions of an axis stay."""
        return self.times(axis) > 0

    def same(self, axis: Axis) -> bool:
        """Whether an axis stays as it is."""
        return bool((self.times(axis) == 1).all())

    def origins(self, axis: Axis) -> Axis:
        """(new positions,) which old position of an axis each new one is.

        Copies follow what they copy: all neighbours that belong to one unit, once more as a whole,
        so that a channel's pixels and a head's entries stay together.
        """
        times, units = self.times(axis), self.shape.settled.units(axis)
        places = np.arange(len(axis), dtype=np.int64)
        if times.max(initial=0) <= 1:
            return places[times > 0]
        starts = np.flatnonzero((np.diff(units, prepend=-2) != 0) | (units < 0))
        runs = np.split(places, starts[1:])
        return np.concatenate([np.tile(run, times[run[0]]) for run in runs])

    def places(self, axis: Axis) -> Tensor:
        """The same as indices for torch."""
        return torch.from_numpy(self.origins(axis))

    def size(self, axis: Axis) -> int:
        """How many positions there will be."""
        return int(self.times(axis).sum())

    def touches(self, axes: Axes) -> bool:
        """Whether anything along these axes changes."""
        return any(not self.same(axis) for axis in axes)

    def cut(self, tensor: Tensor, axes: Axes) -> Tensor:
        """A tensor over the new positions; the tensor itself where nothing changes."""
        for place, axis in enumerate(axes):
            if not self.same(axis):
                tensor = tensor.index_select(place, self.places(axis))
        return tensor

    def spread(self, tensor: Tensor, axes: Axes) -> Tensor:
        """The inverse of `cut`, zeros where positions went."""
        for place, axis in enumerate(axes):
            if not self.mask(axis).all():
                size = list(tensor.shape)
                size[place] = len(axis)
                whole = tensor.new_zeros(size)
                tensor = whole.index_copy(place, self.places(axis), tensor)
        return tensor

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters and buffers of another size, by name."""
        return {
            name: self.cut(state[name].detach(), source.axes).clone()
            for name, source in self.shape.flow.sources.items()
            if name in state and self.touches(source.axes)
        }

    def deaf(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the old sizes that read nothing of what goes."""
        sources = {name: one for name, one in self.shape.flow.sources.items() if name in state}
        heard = {source.name: self.heard(source.name) for source in sources.values()}
        changed = {
            name: state[name].detach().masked_fill(~mask, 0)
            for name, mask in heard.items()
            if not bool(mask.all())
        }  # tied weights are one tensor under all their names
        tied = {name: source.name for name, source in sources.items() if source.name in changed}
        return {name: changed[first] for name, first in tied.items()}

    def heard(self, name: str) -> Tensor:
        """Which entries of a weight read what stays, or read nothing; of the weight's own shape."""
        source = self.shape.flow.sources[name]
        mask = torch.ones([len(axis) for axis in source.axes], dtype=torch.bool)
        for place, axis in enumerate(source.axes):
            gone = np.flatnonzero(np.isin(axis, self._silent) & (axis >= 0))
            mask = mask.index_fill(place, torch.from_numpy(gone), False)
        return mask

    @cached_property
    def _silent(self) -> Axis:
        """Atoms that products read and that go."""
        atoms = [axis[~self.mask(axis)] for axis in self.shape.flow.readers]
        return np.concatenate([np.zeros(0, np.int64), *atoms])


def smaller_call(kept: Kept, node: fx.Node) -> tuple[Any, dict[str, Any]] | None:
    """The operator and arguments of a node over the new positions; None where they stay the same.

    Raises:
        ShapeError: Its sizes cannot be written.
    """
    axes = kept.shape.flow.axes
    entering = [axis for one in node.all_input_nodes for axis in flat(axes.get(one, []))]
    if not kept.touches([*entering, *flat(axes[node])]):
        return None
    change = _CHANGES.get(operator_name(node))
    if change is None:
        return None
    values = named_arguments(node)
    return change(kept, node, values)


def _sizes(kept: Kept, node: fx.Node, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A list of sizes: numbers become smaller, an expression along a cut axis is inferred."""
    name = next(key for key in ("size", "shape", "sizes", "dims") if key in values)
    given = list(values[name])
    axes = flat(kept.shape.flow.axes[node])[-len(given) :] if given else []
    if name == "sizes":  # unflatten: only the new axes are named
        axes = flat(kept.shape.flow.axes[node])
        first = int(values["dim"]) % (len(axes) - len(given) + 1)
        axes = axes[first : first + len(given)]
    for place, axis in enumerate(axes):
        if given[place] == -1 or kept.same(axis):
            continue
        whole = isinstance(given[place], int)
        if not whole and -1 in given:
            raise ShapeError(f"the sizes of {node} depend on what goes")
        given[place] = kept.size(axis) if whole else -1
    return node.target, values | {name: given}


def _parts(kept: Kept, node: fx.Node, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Parts of an axis, by their sizes."""
    results = kept.shape.flow.axes[node]
    place = int(values["dim"])
    if kept.same(flat(kept.shape.flow.axes[values["self"]])[place]):
        return node.target, values
    sizes = [kept.size(part[place]) for part in results if isinstance(part, list)]
    target = torch.ops.aten.split_with_sizes.default
    return target, {"self": values["self"], "split_sizes": sizes, "dim": values["dim"]}


def _stretch(kept: Kept, node: fx.Node, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A stretch of an axis whose bounds move with what goes before them."""
    axis = flat(kept.shape.flow.axes[values["self"]])[int(values["dim"])]
    if kept.same(axis):
        return node.target, values
    before = np.concatenate([[0], np.cumsum(kept.times(axis))])
    size = len(axis)
    low = _bound(values.get("start"), 0, size)
    if operator_name(node) == "narrow":
        length = int(before[low + values["length"]] - before[low])
        return node.target, values | {"start": int(before[low]), "length": length}
    high = _bound(values.get("end"), size, size)
    return node.target, values | {"start": int(before[low]), "end": int(before[high])}


def _bound(value: int | None, default: int, size: int) -> int:
    if value is None:
        return default
    return min(max(value + size if value < 0 else value, 0), size)


def _groups(kept: Kept, node: fx.Node, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A group per channel: as many groups as channels stay."""
    entering = flat(kept.shape.flow.axes[values["input"]])
    rank = len(flat(kept.shape.flow.axes[node])) - 2
    channels = entering[-rank - 1]
    if values["groups"] != len(channels) or len(channels) == 1:
        return node.target, values
    return node.target, values | {"groups": kept.size(channels)}


def _norm(kept: Kept, node: fx.Node, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    axes = flat(kept.shape.flow.axes[node])
    count = len(values["normalized_shape"])
    return node.target, values | {"normalized_shape": [kept.size(axis) for axis in axes[-count:]]}


def _group_norm(kept: Kept, node: fx.Node, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    groups = int(values["num_groups"])
    axis = flat(kept.shape.flow.axes[node])[1]
    if groups == 1:
        return node.target, values
    return node.target, values | {"num_groups": kept.size(axis) * groups // len(axis)}


def _times(kept: Kept, node: fx.Node, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """How often positions are repeated: less where an axis of length one is spread."""
    axes = flat(kept.shape.flow.axes[node])
    entering = flat(kept.shape.flow.axes[values["self"]])
    name = "dims" if "dims" in values else "repeats"
    before = [1] * (len(axes) - len(entering)) + [len(axis) for axis in entering]
    sizes = [
        kept.size(axis) if size == 1 and not kept.mask(axis).all() else None
        for axis, size in zip(axes, before, strict=True)
    ]
    if isinstance(values[name], int):
        return node.target, values | {name: sizes[int(values["dim"])] or values[name]}
    counts = [1] * (len(axes) - len(values[name])) + list(values[name])
    times = [size or count for size, count in zip(sizes, counts, strict=True)]
    return node.target, values | {name: times}


def _pad(kept: Kept, node: fx.Node, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    axes = flat(kept.shape.flow.axes[node])
    amounts = list(values["pad"])
    for place in range(0, len(amounts), 2):
        axis = axes[-1 - place // 2]
        low, high = amounts[place], amounts[place + 1]
        if not kept.same(axis):
            amounts[place] = kept.size(axis[:low])
            amounts[place + 1] = kept.size(axis[len(axis) - high :])
    return node.target, values | {"pad": amounts}


Change = Callable[[Kept, fx.Node, dict[str, Any]], tuple[Any, dict[str, Any]]]
_SIZED = """
    view reshape _unsafe_view unflatten expand zeros ones full empty new_zeros new_ones new_full
    new_empty
"""
_CHANGES: dict[str, Change] = {
    **dict.fromkeys(_SIZED.split(), _sizes),
    "broadcast_to": _sizes,
    **dict.fromkeys(["repeat", "tile", "repeat_interleave"], _times),
    **dict.fromkeys(["split", "chunk", "split_with_sizes", "tensor_split"], _parts),
    **dict.fromkeys(["slice", "narrow"], _stretch),
    **dict.fromkeys(CONVOLUTIONS, _groups),
    **dict.fromkeys(["layer_norm", "rms_norm"], _norm),
    "group_norm": _group_norm,
    **dict.fromkeys(["pad", "constant_pad_nd"], _pad),
}
