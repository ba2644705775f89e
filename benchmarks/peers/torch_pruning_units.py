"""Torch-Pruning's group magnitude: which output units of layers it keeps.

Its dependency graph finds what goes together, and its importance ranks the units of that group; it
then prunes a copy of the model itself.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch_pruning
from torch import nn


def prune(
    model: nn.Module, inputs: Mapping[str, Any], *, layers: Sequence[str], remove: float
) -> tuple[nn.Module, dict[str, list[int]]]:
    """A pruned copy, and the units that it kept of each layer, ascending.

    Args:
        model: Any module it can trace.
        inputs: One batch, as keywords.
        layers: Names of linear layers whose outputs are pruned.
        remove: Share of the outputs to remove, in (0, 1).
    """
    pruned = copy.deepcopy(model).requires_grad_(True)  # it reads gradients' functions
    found = {}
    for name in layers:
        layer = pruned.get_submodule(name)
        graph = torch_pruning.DependencyGraph().build_dependency(pruned, dict(inputs))
        cut = torch_pruning.prune_linear_out_channels
        group = graph.get_pruning_group(layer, cut, idxs=list(range(layer.out_features)))
        scores = torch_pruning.importance.GroupMagnitudeImportance(p=2)(group)
        order = torch.argsort(scores)
        gone = order[: round(len(order) * remove)].tolist()
        found[name] = sorted(set(range(len(order))) - set(gone))
        graph.get_pruning_group(layer, cut, idxs=gone).prune()
    return pruned.requires_grad_(False).eval(), found
