"""A user's own class with smaller weights, its attributes made to fit."""

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from lilliput.shapes.flow import flat, module_of, named_arguments
from lilliput.shapes.graphmodel import replace_weights, weights_of
from lilliput.shapes.resize import Kept, smaller_call

Numbers = dict[str, dict[int, int]]
_SIZES = {
    "in_features": ("weight", 1),
    "out_features": ("weight", 0),
    "embedding_dim": ("weight", 1),
    "num_features": ("weight", 0),
    "num_channels": ("weight", 0),
    "num_parameters": ("weight", 0),
}


def own_classes(model: nn.Module, kept: Kept) -> Iterator[nn.Module]:
    """Copies of a model over smaller weights, with fewer or more of its attributes changed.

    Which numbers in a user's module mean a size that changed cannot be known, only tried: first
    none, then those that the graph's views spell out, then all sizes of its tensors. The caller
    runs each copy and takes the first that answers as it should.

    Args:
        model: The original.
        kept: Which positions stay.
    """
    tried: list[Numbers] = []
    for numbers in ({}, _spelled(kept), _all_sizes(kept)):
        if numbers in tried:
            continue
        tried.append(numbers)
        yield _smaller(model, kept, numbers)


def _smaller(model: nn.Module, kept: Kept, numbers: Numbers) -> nn.Module:
    smaller = copy.deepcopy(model)
    replace_weights(smaller, kept.weights(weights_of(smaller)))
    _fit_layers(model, smaller)
    _fit_groups(kept, smaller)
    for name, changes in numbers.items():
        module = smaller.get_submodule(name)
        for attribute, value in list(vars(module).items()):
            if type(value) is int and value in changes:
                setattr(module, attribute, changes[value])
    for module in smaller.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
    return smaller


def _fit_layers(model: nn.Module, smaller: nn.Module) -> None:
    """What torch's own layers say of the sizes of their weights."""
    for (_, before), after in zip(model.named_modules(), smaller.modules(), strict=True):
        if isinstance(after, nn.RNNBase):
            after.hidden_size = int(after.get_parameter("weight_hh_l0").shape[1])
            after.input_size = int(after.get_parameter("weight_ih_l0").shape[1])
        for attribute, (name, axis) in _SIZES.items():
            weight = getattr(after, name, None)
            if weight is None or not hasattr(after, attribute) or weight.ndim <= axis:
                continue
            if getattr(before, name).shape[axis] == getattr(before, attribute):
                setattr(after, attribute, int(weight.shape[axis]))


def _fit_channels(layer: _ConvNd) -> None:
    """Channels of a convolution, from its weight and its number of groups."""
    outer, inner = int(layer.weight.shape[0]), int(layer.weight.shape[1]) * layer.groups
    turned = isinstance(layer, _ConvTransposeNd)
    layer.in_channels, layer.out_channels = (outer, inner) if turned else (inner, outer)


def _fit_groups(kept: Kept, smaller: nn.Module) -> None:
    """Groups of convolutions, sizes of norms without weights, as the graph has them afterwards."""
    for node in kept.shape.captured.graph.graph.nodes:
        if node.op != "call_function":
            continue
        module, call = smaller.get_submodule(module_of(node)), smaller_call(kept, node)
        said = call[1] if call else {}
        for name in ("groups", "num_groups"):
            if name in said and hasattr(module, name):
                setattr(module, name, said[name])
        if isinstance(module, nn.LayerNorm | nn.RMSNorm) and "normalized_shape" in said:
            module.normalized_shape = tuple(said["normalized_shape"])
        if isinstance(module, _InstanceNorm):
            module.num_features = kept.size(flat(kept.shape.flow.axes[node])[1])
    for module in smaller.modules():
        if isinstance(module, _ConvNd):
            _fit_channels(module)


def _spelled(kept: Kept) -> Numbers:
    """Module -> numbers that its views, zeros and splits spell out -> what they become."""
    found: Numbers = {}
    for node in kept.shape.captured.graph.graph.nodes:
        call = smaller_call(kept, node) if node.op == "call_function" else None
        if call is None:
            continue
        before = _integers(named_arguments(node))
        pairs = zip(before, _integers(call[1]), strict=False)
        changes = {old: new for old, new in pairs if old != new and new > 0}
        if changes:
            found.setdefault(module_of(node), {}).update(changes)
    return found


def _integers(values: dict[str, Any]) -> list[int]:
    """All whole numbers among arguments, lists taken apart."""
    result: list[int] = []
    for value in values.values():
        entries = value if isinstance(value, list | tuple) else [value]
        result += [entry for entry in entries if type(entry) is int]
    return result


def _all_sizes(kept: Kept) -> Numbers:
    """Module -> sizes of the axes in its code -> what they become."""
    found: Numbers = {}
    for node in kept.shape.captured.graph.graph.nodes:
        if node.op != "call_function":
            continue
        for axis in flat(kept.shape.flow.axes[node]):
            if not kept.same(axis):
                name = module_of(node)
                while True:
                    found.setdefault(name, {})[len(axis)] = kept.size(axis)
                    if not name:
                        break
                    name = name.rpartition(".")[0]
    return {**_spelled(kept), **found}
