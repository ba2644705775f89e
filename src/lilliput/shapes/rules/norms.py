"""Norms and sums along an axis: what one position becomes depends on the others."""

import numpy as np

from lilliput.shapes.atoms import Axes, fixed
from lilliput.shapes.flow import Rule, Step


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


def along(step: Step) -> Axes:
    """A softmax: every position depends on the others of its axis."""
    axes = step.axes(step.tensors()[0])
    step.mix(axes[int(step["dim"])])
    return axes


def running(step: Step) -> Axes:
    """A cumulative sum depends on the order of what it sums."""
    axes = step.axes("self")
    step.freeze(axes[int(step["dim"])], "the order of positions counts")
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
    **dict.fromkeys(["softmax", "log_softmax", "_softmax", "_log_softmax"], along),
    **dict.fromkeys(["cumsum", "cumprod"], running),
}
