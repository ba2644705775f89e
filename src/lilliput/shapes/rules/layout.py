"""Operators that only arrange positions: views, joins and parts."""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch

from lilliput.shapes.atoms import Axes, Axis, fixed, live
from lilliput.shapes.flow import PICKED, Rule, Several, Step
from lilliput.shapes.rules.norms import ORDER
from lilliput.shapes.rules.pointwise import broadcast


def reshape(step: Step) -> Axes:
    """Merges and splits axes; runs of them whose sizes agree are taken together."""
    axes = step.axes(step.tensors()[0])
    return _rearranged(step, axes, step.shape)


def _rearranged(step: Step, axes: Axes, shape: list[int]) -> Axes:
    """`axes` seen in another shape of as many positions."""
    result: Axes = []
    for place, (before, sizes) in enumerate(_runs(axes, shape)):
        merged = before[0] if len(before) == 1 else _merged(step, before)
        result += _split(step, merged, sizes, place)
    return result


def _runs(axes: Axes, shape: list[int]) -> Iterator[tuple[Axes, list[int]]]:
    """The shortest runs of axes before and sizes after that hold equally many positions."""
    before, after = list(axes), list(shape)
    while before or after:
        left = [before.pop(0)] if before else []
        right = [after.pop(0)] if after else []
        while (have := math.prod(map(len, left))) != (want := math.prod(right)):
            if have < want:
                left.append(before.pop(0))
            else:
                right.append(after.pop(0))
        yield left, right


def _merged(step: Step, axes: Axes) -> Axis:
    """One axis of several: the outermost one that can be cut gives its positions."""
    sizes = [len(axis) for axis in axes]
    alive = [place for place, axis in enumerate(axes) if live(axis)]
    alive.sort(key=lambda place: (step.flow.is_spare(axes[place]), place))
    if not alive:
        return fixed(math.prod(sizes))
    for place in alive[1:]:
        step.freeze(axes[place], "two axes that could be cut are merged")
    inner = [1] * len(sizes)
    inner[alive[0]] = -1
    return np.broadcast_to(axes[alive[0]].reshape(inner), sizes).reshape(-1)


def _split(step: Step, axis: Axis, sizes: list[int], place: int) -> Axes:
    """One axis seen as several factors, one of which carries the positions."""
    if len(sizes) <= 1:
        return [axis] * len(sizes)
    result = [fixed(size) for size in sizes]
    choices = [number for number, size in enumerate(sizes) if size > 1]
    if not live(axis) or not choices:
        return result
    grid = axis.reshape(sizes)
    exact = [number for number in choices if _depends_only_on(grid, number)]
    carrier = exact[0] if exact else _chosen(step, choices, place)
    rows = np.moveaxis(grid, carrier, 0).reshape(sizes[carrier], -1)
    if not exact:
        _tie_columns(step, rows)
    carried = rows.max(axis=1)
    if not exact:
        step.flow.splits[f"{step.node.name}:{place}"] = (len(choices), carried)
    result[carrier] = carried
    return result


def _chosen(step: Step, choices: list[int], place: int) -> int:
    return choices[step.flow.carriers.get(f"{step.node.name}:{place}", 0)]


def _tie_columns(step: Step, rows: Axis) -> None:
    first = rows.max(axis=1)
    for column in rows.T:
        step.tie(first, column)


def _depends_only_on(grid: Axis, place: int) -> bool:
    """Whether positions are the same all along the other factors."""
    rows = np.moveaxis(grid, place, 0).reshape(grid.shape[place], -1)
    return bool((rows == rows[:, :1]).all())


def permute(step: Step) -> Axes:
    """Axes in another order."""
    axes = step.axes("self")
    return [axes[place] for place in step["dims"]]


def transpose(step: Step) -> Axes:
    """Two axes change places."""
    axes = step.axes("self")
    if len(axes) < 2:
        return axes
    names = ("axis0", "axis1") if step.name == "swapaxes" else ("dim0", "dim1")
    one, other = (0, 1) if step.name == "t" else (int(step[name]) for name in names)
    axes[one], axes[other] = axes[other], axes[one]
    return axes


def moved(step: Step) -> Axes:
    """Some axes go to other places, the rest keeps its order."""
    axes = step.axes("self")
    source, target = (
        [int(place) % len(axes) for place in np.atleast_1d(step[name])]
        for name in ("source", "destination")
    )
    places = [place for place in range(len(axes)) if place not in source]
    for to, place in sorted(zip(target, source, strict=True)):
        places.insert(to, place)
    return [axes[place] for place in places]


def swap_last(step: Step) -> Axes:
    """A matrix, or a batch of them, turned over."""
    axes = step.axes("self")
    return [*axes[:-2], axes[-1], axes[-2]] if step.name == "mT" else axes[::-1]


def join(step: Step) -> Axes:
    """Tensors one after the other along an axis."""
    parts = [step.axes(node) for node in step["tensors"]]
    parts = [axes for axes in parts if not (len(axes) == 1 and len(axes[0]) == 0)]
    place = _joined(step, len(parts[0]))
    others = [[*axes[:place], fixed(1), *axes[place + 1 :]] for axes in parts]
    result = broadcast(step, others)
    result[place] = np.concatenate([axes[place] for axes in parts])
    return result


def _joined(step: Step, rank: int) -> int:
    """The axis along which tensors are joined."""
    if step.name == "hstack":
        return min(1, rank - 1)
    return int(step["dim"]) % rank


def stack(step: Step) -> Axes:
    """Tensors along a new axis."""
    parts = [step.axes(node) for node in step["tensors"]]
    result = broadcast(step, parts)
    place = int(step["dim"]) % (len(result) + 1)
    return [*result[:place], fixed(len(parts)), *result[place:]]


def parts(step: Step) -> Several:
    """An axis cut into consecutive parts."""
    axes = step.axes("self")
    place = int(step["dim"]) % len(axes)
    sizes = [int(result.shape[place]) for result in step.results]
    bounds = np.cumsum([0, *sizes])
    return tuple(
        [*axes[:place], axes[place][low:high], *axes[place + 1 :]] for low, high in pairwise(bounds)
    )


def slices(step: Step) -> Axes:
    """A stretch of an axis."""
    axes = step.axes("self")
    place = int(step["dim"]) % len(axes)
    if not live(axes[place]):
        axes[place] = fixed(step.shape[place])
        return axes
    start, end, pace = step.get("start"), step.get("end"), step.get("step") or 1
    if step.name == "narrow":
        end = start + step["length"]
    if not all(isinstance(value, int | None) for value in (start, end, pace)) or pace != 1:
        step.freeze(axes[place], "a stretch whose bounds are not known")
        axes[place] = fixed(step.shape[place])
        return axes
    axes[place] = axes[place][start:end]
    return axes


def select(step: Step) -> Axes:
    """One index of an axis."""
    axes = step.axes("self")
    place = int(step["dim"]) % len(axes)
    step.freeze(axes[place], PICKED)
    return [*axes[:place], *axes[place + 1 :]]


def unbind(step: Step) -> Several:
    """Every index of an axis as a tensor of its own."""
    axes = step.axes("self")
    place = int(step["dim"]) % len(axes)
    step.freeze(axes[place], PICKED)
    rest = [*axes[:place], *axes[place + 1 :]]
    return tuple(list(rest) for _ in range(len(axes[place])))


def unsqueeze(step: Step) -> Axes:
    """A new axis of length one."""
    axes = step.axes("self")
    place = int(step["dim"]) % (len(axes) + 1)
    return [*axes[:place], fixed(1), *axes[place:]]


def expand(step: Step) -> Axes:
    """Axes of length one, and new ones, spread over more positions."""
    axes, shape = step.axes("self"), step.shape
    axes = [fixed(1)] * (len(shape) - len(axes)) + axes
    result = []
    for place, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        widened = len(axis) != size
        free = widened and not step.opened(place)
        result.append(step.flow.spread(size) if free else fixed(size) if widened else axis)
    return result


def created(step: Step) -> Axes:
    """A tensor that is the same everywhere."""
    return [
        fixed(size) if step.opened(place) else step.flow.spread(size)
        for place, size in enumerate(step.shape)
    ]


def repeat(step: Step) -> Axes:
    """The whole tensor several times along its axes."""
    axes, shape = step.axes("self"), step.shape
    axes = [fixed(1)] * (len(shape) - len(axes)) + axes
    return [_repeated(step, axis, size) for axis, size in zip(axes, shape, strict=True)]


def _repeated(step: Step, axis: Axis, size: int) -> Axis:
    """An axis several times in a row; of length one it is spread and any of it can be cut."""
    if len(axis) == size:
        return axis
    return step.flow.spread(size) if len(axis) == 1 else np.resize(axis, size)


def repeat_interleave(step: Step) -> Axes | None:
    """Every position several times in a row."""
    axes, times, dim = step.axes(step.tensors()[0]), step.get("repeats"), step.get("dim")
    if not isinstance(times, int) or dim is None:
        return None
    axis = axes[dim]
    axes[dim] = step.flow.spread(times) if len(axis) == 1 else np.repeat(axis, times)
    return axes


def halves(step: Step) -> Axes:
    """A gated linear unit: the second half gates the first."""
    axes = step.axes("self")
    place = int(step["dim"]) % len(axes)
    first, second = axes[place].reshape(2, -1)
    axes[place] = step.tie(first, second)
    return axes


def pad(step: Step) -> Axes | None:
    """Positions before and after those of an axis; the new ones can be cut."""
    axes, amounts = step.axes("self"), list(step["pad"])
    for number, (low, high) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        place = len(axes) - 1 - number
        axis = axes[place]
        if not live(axis):
            axes[place] = fixed(step.shape[place])
        elif low or high:
            if step.get("mode") not in (None, "constant") or min(low, high) < 0:
                return None
            axes[place] = np.concatenate([_new(step, low), axis, _new(step, high)])
    return axes


def _new(step: Step, size: int) -> Axis:
    return step.flow.atoms.new(size)


def turned(step: Step) -> Axes:
    """Positions reversed, shifted, or kept on one side of a diagonal: what they lie along stays."""
    axes = step.axes("self")
    asked = step.get("dims")
    places = np.atleast_1d(asked) if asked else range(len(axes))
    for place in places:
        step.freeze(axes[int(place)], ORDER)
    return axes


def shuffle(step: Step) -> Axes:
    """Channels become pixels: all that end in one channel go together."""
    axes = step.axes("self")
    factor = int(step.get("upscale_factor") or 0)
    shape = step.shape
    if factor:
        rows = axes[-3].reshape(-1, factor * factor)
        _tie_columns(step, rows)
        channels = rows.max(axis=1)
    else:
        factor = int(step["downscale_factor"])
        channels = np.repeat(axes[-3], factor * factor)
    return [*axes[:-3], channels, fixed(shape[-2]), fixed(shape[-1])]


def channel_shuffle(step: Step) -> Axes:
    """Channels of all groups in turn: the same positions leave every group."""
    axes = step.axes("self")
    rows = axes[1].reshape(int(step["groups"]), -1)
    _tie_columns(step, rows.T)
    axes[1] = rows.T.reshape(-1)
    return axes


def indexed(step: Step) -> Axes | None:
    """Rows picked along axes that cannot be cut; the other axes go through."""
    axes = step.axes("self")
    if step.name == "index":
        picked = [place for place, one in enumerate(step["indices"]) if one is not None]
        if len(picked) != 1:
            return None
        if step["indices"][picked[0]].meta["val"].dtype is torch.bool:
            return None  # how many rows are left depends on values
        place, chosen = picked[0], step.axes(step["indices"][picked[0]])
    else:
        place, chosen = int(step["dim"]) % len(axes), step.axes("index")
    if live(axes[place]):
        step.freeze(axes[place], "rows are looked up by number")
    return [*axes[:place], *(fixed(len(axis)) for axis in chosen), *axes[place + 1 :]]


_SHAPES = "view reshape _unsafe_view flatten unflatten squeeze view_as reshape_as ravel"
_CREATED = "zeros ones full empty new_zeros new_ones new_full new_empty"

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SHAPES.split(), reshape),
    "permute": permute,
    **dict.fromkeys(["transpose", "t", "swapaxes", "swapdims"], transpose),
    **dict.fromkeys(["movedim", "moveaxis"], moved),
    **dict.fromkeys(["mT", "numpy_T"], swap_last),
    **dict.fromkeys(["cat", "concat", "concatenate", "hstack"], join),
    "stack": stack,
    **dict.fromkeys(["split", "chunk", "split_with_sizes", "tensor_split"], parts),
    **dict.fromkeys(["slice", "narrow"], slices),
    "select": select,
    "unbind": unbind,
    "unsqueeze": unsqueeze,
    **dict.fromkeys(["expand", "expand_as", "broadcast_to"], expand),
    **dict.fromkeys(_CREATED.split(), created),
    **dict.fromkeys(["repeat", "tile"], repeat),
    "repeat_interleave": repeat_interleave,
    "glu": halves,
    **dict.fromkeys(["pad", "constant_pad_nd"], pad),
    **dict.fromkeys(["flip", "roll", "triu", "tril"], turned),
    **dict.fromkeys(["pixel_shuffle", "pixel_unshuffle"], shuffle),
    "channel_shuffle": channel_shuffle,
    **dict.fromkeys(["index", "index_select"], indexed),
}
