"""Norms and sums along an axis: what one position becomes depends on the others."""

import numpy as np

from lilliput.shapes.atoms import Axes, fixed
from lilliput.shapes.flow import Rule, Several, Step
from lilliput.shapes.rules.pointwise import broadcast

ORDER = "the order of positions counts"


def batch_norm(step: Step) -> Axes:
    """Each channel has statistics of its own: cutting one leaves the others as they are."""
    axes = step.axes("input")
    for name in ("weight", "bias", "running_mean", "running_var"):
        if step.get(name) is not None:
            axes[1] = step.tie(axes[1], step.axes(name)[0])
    return axes


def layer_norm(step: Step) -> Axes:
    """Layer and root-mean-square norms mix the last axes."""
    axes = step.axes("input")
    count = len(step["normalized_shape"])
    for name in ("weight", "bias"):
        if step.get(name) is not None:
            given = step.axes(name)
            axes[-count:] = [step.tie(*pair) for pair in zip(axes[-count:], given, strict=True)]
    for axis in axes[-count:]:
        step.mix(axis)
    return axes


def group_norm(step: Step) -> Axes:
    """Only whole groups can go: the statistics of the others then stay as they are."""
    axes = step.axes("input")
    groups = int(step["num_groups"])
    for name in ("weight", "bias"):
        if step.get(name) is not None:
            axes[1] = step.tie(axes[1], step.axes(name)[0])
    if groups == 1:
        step.mix(axes[1])
        return axes
    members = axes[1].reshape(groups, -1)
    for member in members.T[1:]:
        step.tie(members[:, 0], member)
    return axes


def reduction(step: Step) -> Axes:
    """A sum, mean, norm or extreme over some axes."""
    axes = step.axes(step.tensors()[0])
    asked = step.get("dim")
    places = range(len(axes)) if asked is None or asked == [] else np.atleast_1d(asked)
    gone = {int(place) % len(axes) for place in places} if axes else set()
    for place in gone:
        step.mix(axes[place])
    if step.get("keepdim"):
        return [fixed(1) if place in gone else axis for place, axis in enumerate(axes)]
    return [axis for place, axis in enumerate(axes) if place not in gone]


def both_reductions(step: Step) -> Several:
    """A mean beside a variance."""
    axes = reduction(step)
    return axes, list(axes)


def extreme(step: Step) -> Axes | Several:
    """The larger of two tensors, or the largest along an axis with its place."""
    tensors = step.tensors()
    if len(tensors) > 1:
        return broadcast(step, [step.axes(node) for node in tensors])
    if len(step.results) == 1:
        return reduction(step)
    if any(user.args[1] == 1 and user.users for user in step.node.users):
        ranked(step)
    axes = reduction(step)
    return axes, list(axes)


def ranked(step: Step) -> None:
    """Places in an order: what lies along that axis has to stay."""
    axes = step.axes("self")
    asked = step.get("dim")
    for axis in axes if asked is None else [axes[int(asked)]]:
        step.freeze(axis, ORDER)


def sorted_places(step: Step) -> Axes | Several:
    """Positions picked by their rank; the other axes go through."""
    ranked(step)
    axes, place = step.axes("self"), step.get("dim")
    if place is None:
        return [fixed(size) for size in step.shape]
    if len(step.shape) < len(axes):
        del axes[int(place)]
    else:
        axes[int(place)] = fixed(step.shape[int(place)])
    return axes if len(step.results) == 1 else tuple(list(axes) for _ in step.results)


def similarity(step: Step) -> Axes:
    """The cosine of two tensors along an axis."""
    axes = broadcast(step, [step.axes("x1"), step.axes("x2")])
    place = int(step["dim"]) % len(axes)
    step.mix(axes[place])
    return [*axes[:place], *axes[place + 1 :]]


def weight_norm(step: Step) -> Axes:
    """Rows of a weight brought to given lengths."""
    axes, place = step.axes("v"), int(step["dim"])
    lengths = step.axes("g")
    for number, axis in enumerate(axes):
        if number == place % len(axes):
            axes[number] = step.tie(axis, lengths[number])
        else:
            step.mix(axis)
    return axes


def along(step: Step) -> Axes:
    """A softmax: every position depends on the others of its axis."""
    axes = step.axes(step.tensors()[0])
    step.mix(axes[int(step["dim"])])
    return axes


def running(step: Step) -> Axes:
    """A cumulative sum depends on the order of what it sums."""
    axes = step.axes("self")
    step.freeze(axes[int(step["dim"])], ORDER)
    return axes


RULES: dict[str, Rule] = {
    **dict.fromkeys(["batch_norm", "instance_norm"], batch_norm),
    "_native_batch_norm_legit_no_training": batch_norm,
    **dict.fromkeys(["layer_norm", "rms_norm"], layer_norm),
    "group_norm": group_norm,
    **dict.fromkeys(
        ["mean", "sum", "amax", "amin", "norm", "linalg_vector_norm", "logsumexp", "std", "var"],
        reduction,
    ),
    "prod": reduction,
    **dict.fromkeys(["var_mean", "std_mean"], both_reductions),
    **dict.fromkeys(["max", "min"], extreme),
    **dict.fromkeys(["argmax", "argmin", "sort", "topk", "argsort"], sorted_places),
    "cosine_similarity": similarity,
    "_weight_norm": weight_norm,
    **dict.fromkeys(["softmax", "log_softmax", "_softmax", "_log_softmax"], along),
    **dict.fromkeys(["cumsum", "cumprod"], running),
}
